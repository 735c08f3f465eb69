"""``jobctl analyze`` as a user meets it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner, Result

from jobctl.jobs.cli import jobctl
from jobctl.jobs.core import layout
from jobctl.jobs.core.errors import UserError
from tests.jobs.monitoring.runs import write_attempt, write_log, write_run


def call(*words: str) -> Result:
    return CliRunner().invoke(jobctl, list(words), prog_name="jobctl", catch_exceptions=False)


def test_text_and_json_have_the_same_figures(root: Path) -> None:
    run = write_run(layout.run_dir(root, "first"), steps=1000)
    write_attempt(run, 1, end=10.0)
    shown = call("analyze", "first")
    assert shown.exit_code == 0
    assert "60.0% mean, 60.0% best interval of 989.0 TFLOP/s dense" in shown.output
    facts = json.loads(call("analyze", "first", "--json").output)
    assert facts["mfu_peak"] == 0.6
    assert [p["basis"] for p in facts["projections"]] == ["steps", "wall clock"]
    assert f"{facts['projections'][0]['hours']:,.1f} hours" in shown.output


def test_a_length_below_one_token_is_refused(root: Path) -> None:
    write_run(layout.run_dir(root, "first"), steps=20)
    for length in ("-5", "0"):
        assert call("analyze", "first", "--tokens", length).exit_code == 2


def test_several_runs_are_a_list(root: Path) -> None:
    for name in ("a", "b"):
        write_run(layout.run_dir(root, name), steps=20)

    assert [facts["run"] for facts in json.loads(call("analyze", "a", "b", "--json").output)] == ["a", "b"]


def test_damage_is_told_beside_the_figures(root: Path) -> None:
    run = layout.run_dir(root, "first")
    write_run(run, steps=20)
    write_log(run, [], torn='{"kind": "iteration"}\n', minutes=5)
    shown = call("analyze", "first")
    assert (shown.exit_code, "skipped 1 damaged line" in shown.stderr) == (0, True)


def test_the_verbs_need_no_torch(root: Path) -> None:
    write_run(layout.run_dir(root, "first"), steps=20)
    program = (
        "import sys; from jobctl.jobs.cli import invoke; invoke(['analyze', 'first']);"
        "print(sorted({'torch', 'numpy', 'rich', 'plotext', 'prometheus_client'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_skip_beyond_the_end_is_refused(root: Path) -> None:
    write_run(layout.run_dir(root, "first"), steps=200)
    assert "not in the means  150 steps" in call("analyze", "first", "--skip", "150").output
    for skip in ("195", "200", "5000"):
        shown = CliRunner().invoke(jobctl, ["analyze", "first", "--skip", skip], prog_name="jobctl")
        assert isinstance(shown.exception, UserError)
        assert shown.exception.code == 2
        assert shown.exception.message == (
            f"first: no interval remains after {skip} steps: the run has 200 steps"
        )


def test_a_run_too_short_for_a_warm_up_says_that_its_means_have_all(root: Path) -> None:
    write_run(layout.run_dir(root, "short"), steps=8)
    for words in ([], ["--skip", "0"]):
        shown = call("analyze", "short", *words)
        assert "not in the means  nothing: " in shown.output

    assert json.loads(call("analyze", "short", "--json").output)["is_whole"] is True


def test_runs_that_were_scored_on_different_sets_are_told_apart(root: Path) -> None:
    write_run(layout.run_dir(root, "a"), steps=20)
    write_run(layout.run_dir(root, "b"), steps=20, scored={"set": "val-y", "perplexity_per_byte": 3.25})
    shown = call("analyze", "a", "b")
    assert "different validation sets" in shown.stderr
    assert " on val-y, perplexity 3.2500 a byte" in shown.stdout
    assert call("analyze", "b").stderr == ""


def test_one_run_that_is_too_short_hides_no_other(root: Path) -> None:
    write_run(layout.run_dir(root, "long"), steps=200)
    write_run(layout.run_dir(root, "short"), steps=20)
    for runs in (("long", "short"), ("short", "long"), ("long", "gone")):
        shown = call("analyze", *runs, "--skip", "100")
        assert (shown.exit_code, shown.stdout.count("not in the means")) == (2, 1)
        refused = next(name for name in runs if name != "long")
        assert (f"jobctl: {refused}: no interval remains" in shown.stderr) == (refused == "short")
        assert (f"jobctl: no run '{refused}'" in shown.stderr) == (refused == "gone")

    facts = json.loads(call("analyze", "long", "short", "--skip", "100", "--json").stdout)
    assert [fact["run"] for fact in facts] == ["long"]


def test_if_every_run_is_too_short_each_is_named(root: Path) -> None:
    for name in ("a", "b"):
        write_run(layout.run_dir(root, name), steps=20)

    shown = CliRunner().invoke(jobctl, ["analyze", "a", "b", "--skip", "100"], prog_name="jobctl")
    assert isinstance(shown.exception, UserError)
    assert [line.partition(":")[0] for line in shown.exception.message.splitlines()] == ["a", "b"]

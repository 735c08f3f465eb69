"""``jobctl`` as a user meets it: output, exit codes, and errors that say what to do."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobctl.jobs.cli import COMMANDS, main
from jobctl.jobs.core import layout
from jobctl.jobs.runs import pipeline
from jobctl.jobs.spec.job_spec import JobSpec
from jobctl.jobs.submission import submit
from tests.jobs.test_submission import write_meta

Result = tuple[int, str, str]
Invoke = Callable[..., Result]


@pytest.fixture
def jobctl(root: Path, capsys: pytest.CaptureFixture[str]) -> Invoke:
    """Runs a command line in this process; its exit code, standard output and standard error."""

    def invoke(*words: str) -> Result:
        try:
            main(list(words))
            code: Any = 0
        except SystemExit as leaving:
            code = leaving.code or 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return invoke


@pytest.fixture
def payload(tmp_path: Path) -> Callable[[str], str]:
    """``--set python=…`` of a payload that runs a shell script."""

    def make(body: str) -> str:
        python = tmp_path / "payload"
        python.write_text(f"#!/bin/bash\n{body}\n")
        python.chmod(0o755)
        return f"--set=python={python}"

    return make


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("rendr", "unknown command 'rendr'; did you mean 'render'?"),
        ("render", "no model chosen"),
        ("render --model qwen3_1.9b", "unknown model 'qwen3_1.9b'; did you mean 'qwen3_1.8b'?"),
        ("render --model qwen3_1.8b --teir 2", "No such option"),
        ("render --model qwen3_1.8b --tier two", "'two' is not a whole number"),
        ("wait r --timeout soon", "'soon' is not a number"),
        ("render --model qwen3_1.8b --set batch_sise=4", "did you mean 'batch_size'?"),
        ("render --model qwen3_1.8b -- --max_itres=4", "did you mean 'max_iters'?"),
        ("render --model qwen3_1.8b --target k8s --patch", "jobs on k8s cannot read this machine's files"),
        ("render train2 --model qwen3_1.8b", "unknown kind of job 'train2'"),
        ("render eval --model qwen3_1.8b --stage mfu", "contradict each other"),
        ("render export", "export reads a run's checkpoint, but the command names no run"),
        ("submit eval --model qwen3_smoke", "eval reads a run's checkpoint, but the command names no run"),
        ("submit --model qwen3_smoke", "jobctl submit prep --dataset sotu --tokenizer gpt2"),
        ("catalog show qwen3_1.9b", "did you mean 'qwen3_1.8b'?"),
        ("tokenizer qwen4", "did you mean 'qwen3'?"),
    ],
)
def test_wrong_usage_is_a_message_and_exit_code_2(
    jobctl: Invoke, root: Path, words: str, message: str
) -> None:
    code, out, err = jobctl(*words.split())
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err
    assert not root.exists()


@pytest.mark.parametrize("verb", ["status", "describe", "logs", "wait", "cancel", "resume"])
def test_a_run_that_is_not_there_is_a_message(jobctl: Invoke, verb: str) -> None:
    code, _, err = jobctl(verb, "nothing")
    assert code == 2
    assert "no run 'nothing'" in err


def test_rendering_touches_nothing_and_never_imports_torch(root: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from jobctl.jobs.cli import main\n"
        "try: main(['render', '--model', 'qwen3_1.8b', '--target', 'slurm'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'transformers', 'kubernetes', 'numpy'} & set(sys.modules)), file=sys.stderr)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert answer.stdout.startswith("#!/bin/bash\n#SBATCH")
    assert answer.stderr.splitlines()[-1] == "[]"
    assert list(tmp_path.iterdir()) == []


def test_a_relative_root_is_one_of_the_working_directory(
    jobctl: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job's working directory may be another one."""
    monkeypatch.setenv("JOBCTL_ROOT", "w")
    assert f"JOBCTL_ROOT={tmp_path}/w\n" in jobctl("render", "--model", "qwen3_smoke")[1]


def test_the_project_file_and_its_mistakes(jobctl: Invoke, tmp_path: Path) -> None:
    project = tmp_path / "jobctl.yaml"
    project.write_text("target: slurm\nsettings:\n  slurm:\n    account: nlp\n")
    code, out, _ = jobctl("render", "--model", "qwen3_1.8b")
    assert code == 0
    assert "#SBATCH --account=nlp" in out
    project.write_text("target: slurm\nsettings:\n  acount: nlp\n")
    code, _, err = jobctl("render", "--model", "qwen3_1.8b")
    assert code == 2
    assert "jobctl.yaml:3: unknown key 'acount'; did you mean 'slurm.account'?" in err
    project.write_text("target: [slurm\n")
    code, _, err = jobctl("render", "--model", "qwen3_1.8b")
    assert code == 2
    assert "jobctl.yaml:2: not YAML" in err


def test_explain_prints_each_value_with_its_layer(jobctl: Invoke) -> None:
    code, out, _ = jobctl("explain", "--model", "qwen3_1.8b", "--tier", "2", "--set", "seed=7", "--json")
    facts = json.loads(out)
    assert code == 0
    settings = facts["settings"]
    assert settings["batch_size"] == {"value": 20, "from": "hardware b200 for qwen3_1.8b (guide)"}
    assert settings["use_dataloader"] == {"value": True, "from": "tier 2"}
    assert settings["seed"] == {"value": 7, "from": "--set"}
    assert settings["adam_eps"]["from"] == "default"
    assert facts["derived"]["global_batch_size"] == 640
    assert "hardware b200 for qwen3_1.8b (guide)" in jobctl("explain", "--model", "qwen3_1.8b")[1]


def test_the_catalogue_shows_what_it_has(jobctl: Invoke) -> None:
    models = json.loads(jobctl("catalog", "list", "models", "--json")[1])
    assert len(models) == 9
    shown = json.loads(jobctl("catalog", "show", "qwen3_1.8b", "--json")[1])
    assert (shown["parameters"], shown["flops_per_token"]) == (1_830_395_904, 10_322_706_432)
    assert "1.27B" in jobctl("catalog", "show", "gpt2_1.36b")[1]
    assert "basis: guide" in jobctl("catalog", "show", "b200")[1]
    assert "all valid" in jobctl("catalog", "check")[1]


def test_a_dry_run_shows_the_script_and_writes_nothing(jobctl: Invoke, root: Path) -> None:
    write_meta(root)
    code, out, err = jobctl("submit", "--model", "qwen3_smoke", "--run", "r", "--dry-run")
    assert (code, out[:11]) == (0, "#!/bin/bash")
    assert "would submit run r to local" in err
    assert not layout.runs(root).exists()


def test_a_run_from_submission_to_resumption(
    jobctl: Invoke, root: Path, payload: Callable[[str], str]
) -> None:
    write_meta(root)
    body = payload('echo "attempt $ATTEMPT"; [ "$ATTEMPT" -ge 2 ] || exit 200')
    code, out, _ = jobctl("submit", "--model", "qwen3_smoke", "--run", "r", body, "--json")
    assert code == 0
    assert json.loads(out)["run"] == "r"
    code, out, _ = jobctl("wait", "r", "--json")
    assert (code, json.loads(out)["state"]) == (200, "stopped")
    assert "jobctl resume r" in jobctl("status", "r")[1]
    assert jobctl("resume", "r")[0] == 0
    assert jobctl("wait", "r")[0] == 0
    assert jobctl("logs", "r")[1] == "attempt 1\nattempt 2\n"
    assert jobctl("logs", "r", "--attempt", "2", "--grep", "^att")[1] == "attempt 2\n"
    assert [run["state"] for run in json.loads(jobctl("list", "--json")[1])] == ["finished"]
    described = json.loads(jobctl("describe", "r", "--json")[1])
    assert [attempt["exit_code"] for attempt in described["attempts"]] == [200, 0]
    assert "jobctl logs r" in jobctl("describe", "r")[1]
    code, _, err = jobctl("submit", "--model", "qwen3_smoke", "--run", "r", body)
    assert code == 2
    assert "run 'r' exists" in err


def test_waiting_gives_up_when_asked_to(jobctl: Invoke, root: Path, payload: Callable[[str], str]) -> None:
    write_meta(root)
    jobctl(
        "submit",
        "--model",
        "qwen3_smoke",
        "--run",
        "r",
        payload('until [ -e "$RUN_DIR/STOP" ]; do sleep 0.05; done; exit 200'),
    )
    assert jobctl("wait", "r", "--timeout", "0.1")[0] == 124
    assert jobctl("cancel", "r", "--graceful")[0] == 0
    assert jobctl("wait", "r")[0] == 200
    code, _, err = jobctl("cancel", "r")
    assert (code, "is cancelled already" in err) == (1, True)


@pytest.mark.parametrize(
    "job", [["prep", "--dataset", "sotu", "--tokenizer", "gpt2"], ["sweep", "--model", "qwen3_smoke"]]
)
def test_what_has_nothing_to_checkpoint_is_cancelled_at_once(
    job: list[str], jobctl: Invoke, root: Path, payload: Callable[[str], str]
) -> None:
    if job[0] == "sweep":
        write_meta(root)
    assert jobctl("submit", *job, "--run", "r", payload("sleep 60"))[0] == 0
    assert "r: cancelled" in jobctl("cancel", "r", "--graceful")[1]
    jobctl("wait", "r", "--timeout", "20")
    assert json.loads(jobctl("status", "r", "--json")[1])["state"] == "cancelled"


def test_a_root_that_cannot_be_written_leaves_nothing(
    jobctl: Invoke, root: Path, payload: Callable[[str], str]
) -> None:
    write_meta(root)
    (root / "runs").write_text("a file where the folder should be")
    code, _, err = jobctl("submit", "--model", "qwen3_smoke", payload("true"))
    assert code == 2
    assert "cannot be written" in err
    assert "JOBCTL_ROOT" in err


def test_shell_completion_knows_the_commands(root: Path) -> None:
    answer = subprocess.run(
        [sys.executable, "-c", "from jobctl.jobs.cli import main; main()"], capture_output=True, text=True, check=False,
        env={**os.environ, "_JOBCTL_COMPLETE": "bash_complete", "COMP_WORDS": "jobctl re", "COMP_CWORD": "1"},
    )  # fmt: skip
    completed = {line.partition(",")[2] for line in answer.stdout.split()}
    assert {"render", "resume"} <= completed
    assert completed == {name for name in COMMANDS if name.startswith("re")}


def test_a_reader_that_goes_away_is_no_traceback(root: Path) -> None:
    command = f"{sys.executable} -c 'from jobctl.jobs.cli import main; main()' catalog list | head -n 1"
    answer = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert answer.stdout.startswith("KIND")
    assert answer.stderr == ""


def test_runs_are_looked_for_where_the_site_keeps_them(
    jobctl: Invoke, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JOBCTL_ROOT")
    site = tmp_path / "site.yaml"
    site.write_text(f"summary: mine\nsettings:\n  root: {json.dumps(str(root))}\n")
    assert str(root) in jobctl("list", "--site", str(site))[1]
    (tmp_path / "jobctl.yaml").write_text(f"site: {json.dumps(str(site))}\n")
    assert str(root) in jobctl("list")[1]


def test_lint_says_where_what_and_how_to_mend_it(jobctl: Invoke, tmp_path: Path) -> None:
    script = tmp_path / "train.sh"
    script.write_text("#!/bin/bash\nset -x\n#SBATCH --nodes=2\nsrun python train.py\n")
    code, out, _ = jobctl("lint", str(script))
    assert code == 1
    assert f"{script}:3: " in out
    code, out, _ = jobctl("lint", str(script), "--json")
    assert {"line", "rule", "severity", "message", "fix"} == set(json.loads(out)[0])
    script.write_text(jobctl("render", "--model", "qwen3_1.8b", "--target", "slurm")[1])
    assert jobctl("lint", str(script)) == (0, "no mistakes\n", "")


def test_a_pattern_that_is_none_is_a_message(
    jobctl: Invoke, root: Path, payload: Callable[[str], str]
) -> None:
    write_meta(root)
    assert (
        jobctl("submit", "--model", "qwen3_smoke", "--run", "r", payload("echo one; echo two"), "--wait")[0]
        == 0
    )
    code, _, err = jobctl("logs", "r", "--grep", "[")
    assert code == 2
    assert "is no regular expression" in err
    assert jobctl("logs", "r", "--grep", "^t")[1] == "two\n"


def test_a_broken_run_ends_neither_list_nor_json(
    jobctl: Invoke, root: Path, job: Callable[..., JobSpec]
) -> None:
    for name in ("good", "bad"):
        submit(job("true", run=name))
        assert jobctl("wait", name)[0] == 0
    (root / "runs/bad/run.json").write_text("[]")
    code, out, err = jobctl("list", "--json")
    assert (code, [status["run"] for status in json.loads(out)]) == (0, ["good"])
    assert "note: skipped: " in err
    assert "runs/bad/run.json: not a run's record" in err
    code, _, err = jobctl("status", "bad")
    assert (code, "runs/bad/run.json: not a run's record" in err) == (1, True)


def test_metrics_that_are_none_are_named(jobctl: Invoke, root: Path, job: Callable[..., JobSpec]) -> None:
    run, _ = submit(job("true"))
    assert jobctl("wait", "r")[0] == 0
    layout.metrics_dir(run.path).mkdir()
    (layout.metrics_dir(run.path) / "run_1.json").write_text('{"losses": [7]}')
    code, _, err = jobctl("describe", "r")
    assert (code, "run_1.json is not the log of a training" in err) == (1, True)


def test_a_pipeline_is_shown_though_one_of_its_runs_is_broken(
    jobctl: Invoke, root: Path, job: Callable[..., JobSpec]
) -> None:
    pipeline.write(root, pipeline.plan("p"))
    for name in ("p-prep", "p-train"):
        submit(job("true", run=name))
        assert jobctl("wait", name)[0] == 0
    (root / "runs/p-prep/run.json").write_text("[]")
    code, out, _ = jobctl("status", "p", "--json")
    states = {status["run"]: status["state"] for status in json.loads(out)["runs"]}
    assert (code, states) == (0, {"p-prep": "unknown", "p-train": "finished"})


@pytest.mark.parametrize("log", ["logs/1/batch.log", "logs/1/rank-00000.log"])
def test_a_log_that_is_a_fifo_is_not_waited_for(
    jobctl: Invoke, root: Path, job: Callable[..., JobSpec], log: str
) -> None:
    run, _ = submit(job("true"))
    assert jobctl("wait", "r")[0] == 0
    (run.path / log).unlink(missing_ok=True)
    os.mkfifo(run.path / log)
    (run.path / "logs/1²").mkdir()
    (run.path / "logs/1/rank-x.log").touch()
    code, _, err = jobctl("logs", "r", *(["--all-ranks"] if "rank" in log else []))
    assert (code, "not a regular file" in err) == (1, True)


def test_what_a_run_says_of_itself_does_not_steer_the_terminal(
    jobctl: Invoke, root: Path, job: Callable[..., JobSpec]
) -> None:
    run, _ = submit(job("printf '\\033[2J\\033[31mred\\n'"))
    assert jobctl("wait", "r")[0] == 0
    file = layout.attempt_file(run.path, 1)
    record = json.loads(file.read_text())
    file.write_text(
        json.dumps(record | {"job_id": "\x1b]0;title\x07", "nodes": "\u202en1", "reason": "\x9b2J"})
    )
    for words in (("list",), ("status", "r"), ("describe", "r")):
        code, out, err = jobctl(*words)
        assert code == 0
        assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(out + err)
        assert r"\x1b]0;title\x07" in out
    assert "\\x1b[2Jred\n" in jobctl("logs", "r")[1], "colours are for a terminal"

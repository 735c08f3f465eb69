"""``jobctl pipeline`` on a real Slurm: one chain of jobs that wait for each other in its queue."""

from __future__ import annotations

import pytest

from jobctl.jobs.cli import main
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.runs import store as runs
from jobctl.slurm.target import TARGET
from tests.slurm.conftest import Submitter

STEPS = [
    "jobctl.prep.fetch",
    "jobctl.prep",
    "jobctl.trainer.preflight",
    "jobctl.trainer.launch",
    "jobctl.trainer.launch",
    "jobctl.trainer.export",
]
UNTIL_GO = 'until [ -e "$JOBCTL_ROOT/go" ]; do sleep 0.1; done'
RECORD = 'echo "$2" >>"$JOBCTL_ROOT/steps"'


@pytest.fixture
def pipeline(slurm_runs: Submitter, monkeypatch: pytest.MonkeyPatch) -> Submitter:
    monkeypatch.setenv("JOBCTL_ROOT", str(slurm_runs.root))
    monkeypatch.chdir(slurm_runs.root.parent)
    return slurm_runs


def jobctl(*words: str) -> int:
    try:
        main(list(words))
    except SystemExit as leaving:
        return int(leaving.code or 0)
    return 0


def submit(pipeline: Submitter, body: str) -> int:
    python = pipeline.spec("p", body).site.python
    settings = (f"python={python}", "exclusive=false", "time_limit=00:10:00")
    words = [word for setting in settings for word in ("--set", setting)]
    return jobctl("pipeline", "--model", "qwen3_smoke", "--target", "slurm", "--run", "p", *words)


def steps(pipeline: Submitter) -> list[str]:
    file = pipeline.root / "steps"
    return file.read_text().split() if file.exists() else []


def test_the_whole_chain_is_submitted_at_once_and_runs_in_order(pipeline: Submitter) -> None:
    assert submit(pipeline, f"{RECORD}; {UNTIL_GO}") == 0
    queued = pipeline.cluster.run("squeue", "-h", "-o", "%j").split()
    assert sorted(queued) == [
        "p-preflight", "p-prep", "p-tokenizer", "p-train", "p-train:eval", "p-train:export",
    ]  # fmt: skip
    (pipeline.root / "go").touch()
    assert jobctl("wait", "p") == 0
    assert steps(pipeline) == STEPS
    names = ("p-train", "p-train:eval", "p-train:export")
    attempts = [attempt for name in names for attempt in runs.read(pipeline.root, name).attempts]
    assert [(a.step, a.exit_code) for a in attempts] == [("train", 0), ("eval", 0), ("export", 0)]


def test_what_comes_after_a_failure_never_starts_and_is_done_when_called_again(
    pipeline: Submitter, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails = f'[ -e "$JOBCTL_ROOT/mended" ] || {{ {UNTIL_GO}; exit 3; }}'
    body = f'{RECORD}; [ "$2" != jobctl.trainer.preflight ] || {fails}'
    assert submit(pipeline, body) == 0
    (pipeline.root / "go").touch()
    assert jobctl("wait", "p") == 3
    pipeline.until(lambda: pipeline.cluster.run("squeue", "-h") == "", "an empty queue", 60)
    for queue in (TARGET._queued, lambda *asked: []):  # and when Slurm has forgotten the jobs
        with monkeypatch.context() as patched:
            patched.setattr(TARGET, "_queued", queue)
            status = pipeline.status("p-train")
        assert status.state == "cancelled"
        assert status.detail.startswith("never started: it had to wait for p-preflight, which is failed")
    (pipeline.root / "mended").touch()
    assert submit(pipeline, body) == 0
    assert jobctl("wait", "p") == 0
    assert steps(pipeline) == [*STEPS[:3], *STEPS[2:]]


def test_a_step_that_fails_while_the_rest_is_still_handed_in_is_named(pipeline: Submitter) -> None:
    pipeline.submit("first", "exit 3")
    pipeline.wait("first", "failed")
    pipeline.submit("second", "exit 0")
    pipeline.wait("second", "finished")
    with pytest.raises(UserError, match="which is failed: exit code 3"):
        pipeline.submit("third", "exit 0", after=("second", "first"))


def test_cancel_ends_the_step_at_work_and_all_that_wait_for_it(
    pipeline: Submitter, capsys: pytest.CaptureFixture[str]
) -> None:
    body = '[ "$2" != jobctl.prep ] || sleep 600'
    assert submit(pipeline, body) == 0
    pipeline.until(lambda: (pipeline.root / "runs/p-prep/attempts/1.json").exists(), "prep at work", 60)
    assert submit(pipeline, body) == 1
    assert "is still running: p-prep is running" in capsys.readouterr().err
    assert jobctl("cancel", "p") == 0
    pipeline.cluster.wait_until_idle()
    assert pipeline.cluster.run("squeue", "-h") == ""
    jobctl("status", "p")
    states = [line.split()[2] for line in capsys.readouterr().out.splitlines()[-6:]]
    assert states == ["finished", *["cancelled"] * 5]


def test_a_refused_step_takes_those_before_it_with_it(
    pipeline: Submitter, capsys: pytest.CaptureFixture[str]
) -> None:
    python = pipeline.spec("p", "sleep 600").site.python
    sets = (f"python={python}", "exclusive=false", "partition=nope", "cpu_partition=gpu")
    words = [word for setting in sets for word in ("--set", setting)]
    pipeline_words = (
        "pipeline",
        "--model",
        "qwen3_smoke",
        "--hardware",
        "h100",
        "--target",
        "slurm",
        "--run",
        "p",
    )
    assert jobctl(*pipeline_words, *words) == 1
    assert "invalid partition" in capsys.readouterr().err
    pipeline.until(lambda: pipeline.cluster.run("squeue", "-h") == "", "an empty queue", 60)

"""``jobctl delete`` and ``prune``: what is removed is said first, and what is at work stays."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from jobctl.jobs.cli.finding import Place
from jobctl.jobs.cli.follow import Progress, follow
from jobctl.jobs.runs.store import Run, Status
from jobctl.jobs.spec.job_spec import JobSpec
from jobctl.jobs.spec.resolution import Choices, resolve
from jobctl.jobs.submission import submit
from tests.jobs.cli.recorded import recorded
from tests.jobs.cli.test_cli import Invoke, jobctl
from tests.other_user import OTHER

__all__ = ["jobctl"]

Job = Callable[..., JobSpec]


def ended(job: Job, name: str, body: str = "true") -> Run:
    """Run a job to its end, and give it a checkpoint of a thousand bytes."""
    submit(job(body, run=name))
    run, _ = follow(name, Place(), Progress(quiet=True))
    checkpoint = run.path / "checkpoints/step-1"
    checkpoint.mkdir(parents=True)
    (checkpoint / "weights").write_bytes(b"x" * 1000)
    return run


def test_a_run_is_removed_and_what_it_held_is_said(jobctl: Invoke, root: Path, job: Job) -> None:
    run = ended(job, "old")
    code, out, _ = jobctl("delete", "old", "--yes", "--json")
    facts = json.loads(out)
    assert code == 0
    assert facts["removed"][0]["run"] == "old"
    assert facts["bytes"] >= 1000
    assert not run.path.exists()
    assert list((root / "runs").iterdir()) == []


def test_checkpoints_alone_may_go(jobctl: Invoke, root: Path, job: Job) -> None:
    run = ended(job, "old")
    out = jobctl("delete", "old", "--checkpoints", "-y")[1]
    assert out == "removed 1 run, 1 kB\n"
    assert not (run.path / "checkpoints").exists()
    assert jobctl("status", "old")[0] == 0


def test_nothing_is_removed_without_a_yes(
    jobctl: Invoke, root: Path, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", open(os.devnull))  # noqa: SIM115
    run = ended(job, "old")
    code, _, err = jobctl("delete", "old")
    assert code == 2
    assert "Remove 1 run, " in err
    assert (
        "nobody can answer the question, so jobctl removed nothing\n  to remove without a question: --yes"
        in err
    )
    assert run.path.is_dir()


def test_a_run_that_is_at_work_is_not_removed(jobctl: Invoke, root: Path, job: Job) -> None:
    submit(job('until [ -e "$RUN_DIR/STOP" ]; do sleep 0.02; done; exit 200'))
    code, _, err = jobctl("delete", "r", "--yes")
    assert (code, "run 'r' is running" in err) == (1, True)
    assert "nothing to remove" in jobctl("prune", "--older-than", "0", "--yes")[1]
    jobctl("cancel", "r")
    assert (root / "runs/r/run.json").is_file()


def test_a_job_on_a_checkpoint_is_named_by_its_run(jobctl: Invoke, root: Path, job: Job) -> None:
    ended(job, "r")
    submit(job("true", stage="eval"))
    follow("r:eval", Place(), Progress(quiet=True))
    code, _, err = jobctl("delete", "r:eval", "--yes")
    assert (code, "jobctl delete r" in err) == (2, True)


@pytest.mark.parametrize(
    ("words", "gone"),
    [
        (("--state", "failed"), {"bad"}),
        (("--older-than", "30"), {"old"}),
        (("--older-than", "30", "--state", "failed"), set()),
        (("--older-than", "0"), {"bad", "old", "new"}),
    ],
)
def test_prune_removes_what_is_old_or_ended_so(
    jobctl: Invoke, root: Path, job: Job, words: tuple[str, ...], gone: set[str]
) -> None:
    for name, body in (("bad", "exit 3"), ("old", "true"), ("new", "true")):
        ended(job, name, body)

    long_ago = time.time() - 40 * 86400
    os.utime(root / "runs/old/attempts", (long_ago, long_ago))
    out = jobctl("prune", *words, "--yes", "--json")[1]
    assert {removal["run"] for removal in json.loads(out)["removed"]} == gone
    assert {path.name for path in (root / "runs").iterdir()} == {"bad", "old", "new"} - gone


def test_checkpoints_behind_a_link_stay_and_the_other_runs_are_pruned(
    jobctl: Invoke, root: Path, job: Job, tmp_path: Path
) -> None:
    linked = ended(job, "linked").path / "checkpoints"
    other = ended(job, "other").path / "checkpoints"
    disk = tmp_path / "large-disk"
    (disk / "step-1").mkdir(parents=True)
    shutil.rmtree(linked)
    linked.symlink_to(disk)

    code, out, err = jobctl("prune", "--older-than", "0", "--checkpoints", "--yes")
    assert (code, out[:14]) == (0, "removed 1 run,")
    assert f"skipped: {linked} is a symbolic link" in err
    assert (disk / "step-1").is_dir()
    assert not other.exists()

    code, _, err = jobctl("delete", "linked", "--checkpoints", "--yes")
    assert (code, f"{linked} is a symbolic link" in err) == (1, True)
    assert linked.is_symlink()


def test_prune_wants_to_know_which(jobctl: Invoke, root: Path) -> None:
    code, _, err = jobctl("prune", "--yes")
    assert (code, "so it needs a condition" in err) == (2, True)


def give_away(run: Run) -> None:
    for path in (run.path, *run.path.rglob("*")):
        os.chown(path, OTHER.pw_uid, OTHER.pw_gid, follow_symlinks=False)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a run away")
def test_prune_leaves_the_runs_of_others_and_says_so(jobctl: Invoke, root: Path, job: Job) -> None:
    theirs = ended(job, "theirs")
    ours = ended(job, "ours")
    give_away(theirs)

    code, out, err = jobctl("prune", "--older-than", "0", "--yes")

    assert (code, out[:14]) == (0, "removed 1 run,")
    assert "skipped: " in err
    assert theirs.path.is_dir()
    assert not ours.path.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a run away")
def test_delete_removes_none_where_one_is_refused(jobctl: Invoke, root: Path, job: Job) -> None:
    ours = ended(job, "ours")
    theirs = ended(job, "theirs")
    give_away(theirs)

    assert jobctl("delete", "ours", "theirs", "--yes")[0] != 0
    assert ours.path.is_dir()
    assert theirs.path.is_dir()


@pytest.mark.parametrize("target", ["k8s", "slurm"])
def test_a_run_of_a_cluster_that_does_not_answer_is_left_out_and_named(
    target: str, jobctl: Invoke, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    choices = Choices(model="qwen3_smoke", target=target, run="there")
    recorded(root, resolve(choices, version="0.0.0", root=str(root)).spec)
    unknown = Status(run="there", target=target, state="unknown")
    monkeypatch.setattr("jobctl.jobs.cli.removal.statuses", lambda runs: [unknown for _ in runs])
    code, out, err = jobctl("prune", "--older-than", "0", "--yes")
    assert (code, out) == (0, "nothing to remove\n")
    assert "skipped: it is unknown whether these runs have ended: there" in err
    assert (root / "runs/there").is_dir()

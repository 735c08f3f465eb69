"""A run's own records and Slurm's word together say where it stands."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from jobctl.jobs.core.stamps import seconds_of
from jobctl.jobs.runs.records import Attempt, RunRecord
from jobctl.jobs.runs.store import Run, Status
from jobctl.jobs.spec.resolution import Choices, resolve
from jobctl.slurm.client import Slurm
from jobctl.slurm.job_ids import record_job_id
from jobctl.slurm.jobs import Job
from jobctl.slurm.status import jobs_of, needs_history, status_of
from jobctl.slurm.target import SlurmTarget

START, END = "2026-11-24T10:00:00Z", "2026-11-24T10:10:00Z"
SPEC = resolve(Choices(model="qwen3_smoke", target="slurm"), version="0").spec


def moment(stamp: str) -> float:
    seconds = seconds_of(stamp)
    assert seconds is not None
    return seconds


NOW = moment("2026-11-24T12:00:00Z")


def run(*attempts: Attempt, submitted: str = START, path: str = "/data/runs/x") -> Run:
    return Run(Path(path).name, Path(path), RunRecord(spec=SPEC, submitted=submitted), attempts)


def attempt(
    number: int = 1, code: int | None = None, reason: str | None = None, job_id: str = "7"
) -> Attempt:
    end = None if code is None else END
    return Attempt(
        attempt=number, job_id=job_id, target="slurm", host="n1", nodes="n1", pid=1, start=START, end=end,
        exit_code=code, reason=reason,
    )  # fmt: skip


def job(state: str, *, started: float | None = None, **facts: Any) -> Job:
    return Job(id="7", name="x", state=state, started=None if started is None else int(started), **facts)


def test_a_requeue_that_slurm_did_not_take_is_reported(tmp_path: Path) -> None:
    stopped = run(attempt(code=200), path=str(tmp_path / "x"))
    folder = stopped.path / "logs" / "1"
    folder.mkdir(parents=True)
    (folder / "requeue-lost").write_text("Slurm has not accepted the requeue\n")
    status = status_of(stopped, [job("COMPLETED")], NOW)
    assert (status.state, status.detail) == (
        "stopped",
        "checkpointed, but Slurm has not accepted the requeue; jobctl resume x",
    )
    assert status_of(stopped, [job("PENDING")], NOW).state == "pending"


@pytest.mark.parametrize(
    ("attempts", "jobs", "state", "words"),
    [
        ([], [job("PENDING", reason="Resources")], "pending", "free nodes"),
        ([], [job("RUNNING", node_list="n1")], "running", "running on n1"),
        ([attempt()], [job("RUNNING", started=moment(START))], "running", ""),
        ([attempt(code=0)], [job("COMPLETING", started=moment(START))], "finished", ""),
        ([attempt(code=200)], [job("COMPLETING", started=moment(START))], "running", "checkpointed"),
        ([attempt(code=200)], [job("PENDING", reason="BeginTime")], "pending", "requeued"),
        ([attempt(code=1, reason="node failure")], [], "stopped", "resume"),
        (
            [attempt(code=1, reason="node failure")],
            [job("COMPLETING", started=moment(END) + 5)],
            "running",
            "a node died; ending",
        ),
        ([attempt(code=0)], [job("RUNNING", started=moment(END) + 5)], "running", ""),
        ([attempt(code=0)], [], "finished", ""),
        ([attempt(code=200)], [job("FAILED", exit_code=200)], "stopped", "resume"),
        ([attempt(code=1)], [job("FAILED", exit_code=1)], "failed", "exit code 1"),
        ([attempt()], [job("TIMEOUT")], "failed", "time limit"),
        ([attempt()], [job("NODE_FAIL")], "failed", "node died"),
        ([attempt()], [job("CANCELLED")], "cancelled", ""),
        ([attempt(code=143, reason="cancelled")], [job("CANCELLED")], "cancelled", ""),
        ([attempt(code=143, reason="cancelled")], [job("NODE_FAIL")], "failed", "node died"),
        ([], [job("CANCELLED")], "cancelled", ""),
        ([], [job("FAILED", exit_code=2)], "failed", "slurm.out"),
        ([], [], "lost", "resume"),
        ([attempt()], [], "lost", "resume"),
    ],
)
def test_states(attempts: list[Attempt], jobs: list[Job], state: str, words: str) -> None:
    status = status_of(run(*attempts), jobs, NOW)
    assert status.state == state
    assert words in status.detail


@pytest.mark.parametrize("state", ["PREEMPTED", "NODE_FAIL", "TIMEOUT", "FAILED", "COMPLETED"])
@pytest.mark.parametrize("clock", [0, -20, 20])
def test_a_run_goes_on_until_its_last_words_can_be_read(state: str, clock: int) -> None:
    """A file system over a network shows the record of an attempt later than Slurm its job's end."""
    ended = job(state, ended=int(NOW) + clock)
    status = status_of(run(attempt()), [ended], NOW)
    assert (status.state, "waiting for its record" in status.detail) == ("running", True)
    assert status_of(run(attempt(code=0)), [ended], NOW).state == "finished"
    assert status_of(run(attempt()), [ended], NOW + 60).state == "failed"


def test_a_cancelled_job_or_one_without_an_attempt_needs_no_words() -> None:
    assert status_of(run(attempt()), [job("CANCELLED", ended=int(NOW))], NOW).state == "cancelled"
    assert status_of(run(), [job("FAILED", ended=int(NOW))], NOW).state == "failed"
    assert status_of(run(attempt(job_id="6")), [job("FAILED", ended=int(NOW))], NOW).state == "failed"


@pytest.mark.parametrize("jobs", [[], [job("CANCELLED")]])
def test_a_run_whose_dependency_failed_says_so_whatever_slurm_knows(jobs: list[Job]) -> None:
    failed = Status(run="before", state="failed", target="slurm")
    found = status_of(run(), jobs, moment(START) + 5, failed)
    assert found.state == "cancelled"
    assert found.detail.startswith("never started: it had to wait for before, which is failed")
    assert "jobctl resume before, then jobctl resume x" in found.detail
    assert status_of(run(attempt(code=0)), jobs, NOW, failed).state == "finished"


def test_a_run_that_slurm_does_not_know_yet_is_being_submitted() -> None:
    assert status_of(run(), [], moment(START) + 5).state == "submitted"


def test_a_run_goes_on_while_a_job_that_comes_after_its_first_one_waits() -> None:
    """As an evaluation does after a training: the training has written its end, and Slurm is still clearing up."""
    later = [Job(id=id_, name="x", state="PENDING", reason="Dependency") for id_ in ("8", "10")]
    running = status_of(run(attempt()), [job("RUNNING", started=moment(START), node_list="n1"), *later], NOW)
    assert (running.state, running.detail) == ("running", "running on n1; then job 8, 10")
    for code in (0, 1):
        ended = [job("COMPLETING", started=moment(START)), *later]
        found = status_of(run(attempt(code=code)), ended, NOW)
        assert (found.state, found.job_id, found.detail) == (
            "pending",
            "8",
            "waiting for another job; then job 10",
        )


def test_a_later_job_counts_more_than_an_older_attempt() -> None:
    """As after a resume."""
    found = status_of(run(attempt(code=1, job_id="6")), [job("PENDING", reason="Priority")], NOW)
    assert (found.state, found.job_id) == ("pending", "7")


def test_a_job_from_a_pipe_is_known_by_its_attempt() -> None:
    piped = Job(id="7", name="qwen3_smoke-train", state="RUNNING", comment="jobctl")
    assert jobs_of(run(attempt()), [piped]) == [piped]
    assert jobs_of(run(), [piped]) == []


def test_a_job_of_the_same_name_under_another_root_is_another_runs(tmp_path: Path) -> None:
    """Accounts keep no comment unless they are told to."""
    mine = run(path=str(tmp_path / "x"))
    theirs = Job(id="8", name="x", state="FAILED", submitted=int(moment(START)) + 1)
    assert jobs_of(mine, [theirs]) == [theirs], "a run of an older version has recorded no id"
    assert jobs_of(mine, [Job(id="8", name="x", state="FAILED", submitted=int(moment(START)) + 3600)]) == []

    (tmp_path / "x" / "logs").mkdir(parents=True)
    record_job_id(mine.path, "9")
    record_job_id(mine.path, "10")
    array = Job(id="10_3", name="x", state="FAILED")
    assert jobs_of(mine, [theirs, array]) == [array]


def test_a_run_whose_time_nobody_knows_hides_no_other(tmp_path: Path) -> None:
    asked: list[float] = []

    class Recording(Slurm):
        def queue(self, users: object = ()) -> list[Job]:
            return []

        def history(self, since: float, users: object = ()) -> list[Job]:
            asked.append(since)
            return [Job(id="9", name="known", state="TIMEOUT", submitted=int(moment(START)))]

    for name in ("piped", "known"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "run.json").write_text(SPEC.record())
    os.utime(tmp_path / "runs/piped/run.json", (moment(START) + 60, moment(START) + 60))
    gone = run(submitted="", path=str(tmp_path / "runs" / "gone"))
    piped = run(submitted="", path=str(tmp_path / "runs" / "piped"))
    known = run(submitted=START, path=str(tmp_path / "runs" / "known"))
    (tmp_path / "runs" / "known" / "run.json").write_text(SPEC.record()[:-1] + f', "submitted": "{START}"}}')

    target = SlurmTarget(Recording(), clock=lambda: NOW)
    states = {status.run: status.state for status in target.statuses([gone, piped, known])}
    assert states == {"gone": "unknown", "piped": "lost", "known": "failed"}
    assert asked == [moment(START) - 1], "sacct refuses a time before 1970, for all"
    assert [target.statuses([each])[0].state for each in (piped, known)] == ["lost", "failed"]


def test_only_an_unexplained_end_asks_the_accounts() -> None:
    assert needs_history(run(attempt()), [])
    assert needs_history(run(attempt(code=143)), [])
    assert not needs_history(run(attempt(code=0)), [])
    assert not needs_history(run(attempt()), [job("RUNNING")])


def test_any_number_of_runs_is_one_call_each(tmp_path: Path) -> None:
    calls: list[str] = []

    class Counting(Slurm):
        def queue(self, users: object = ()) -> list[Job]:
            calls.append("squeue")
            return []

        def history(self, since: float, users: object = ()) -> list[Job]:
            calls.append("sacct")
            return [Job(id="7", name="lost-1", state="CANCELLED", submitted=int(moment(START)) + 5)]

    paths = [tmp_path / "runs" / f"{kind}-{n}" for kind in ("done", "lost") for n in range(100)]
    for path in paths:
        path.mkdir(parents=True)
        (path / "run.json").write_text(SPEC.record())
        os.utime(path / "run.json", (moment(START), moment(START)))
    found = [
        run(*([attempt(code=0)] if path.name.startswith("done") else []), submitted=START, path=str(path))
        for path in paths
    ]
    states = [status.state for status in SlurmTarget(Counting()).statuses(found)]
    assert calls == ["squeue", "sacct"]
    assert states[:100] == ["finished"] * 100
    assert states[101] == "cancelled"
    assert set(states[102:]) == {"lost"}

    (paths[150] / "run.json").write_text("[]")
    status = SlurmTarget(Counting()).statuses(found)[150]
    assert (status.state, "not a run's record" in status.detail) == ("unknown", True)

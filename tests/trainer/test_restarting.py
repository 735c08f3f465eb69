"""Ranks that died start again in place: when, how often, and what the other nodes are told."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import signal
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from jobctl.jobs.core.layout import hang_file
from jobctl.jobs.core.memory_kill import MemoryWatch
from jobctl.trainer import launch
from jobctl.trainer.lifecycle import investigation
from jobctl.trainer.lifecycle.rank_notes import FOLDER, Note, NoteFolder
from jobctl.trainer.options import parse


def died(**codes: int) -> ChildFailedError:
    """Return torchrun's error for ranks that ended with these codes: ``rank0=1``."""
    failures = {}
    for place, (name, code) in enumerate(codes.items()):
        rank = int(name.removeprefix("rank"))
        failures[rank] = ProcessFailure(rank, 100 + rank, code, "/no/error/file")
        failures[rank].timestamp = place
    return ChildFailedError("trainer", failures)


class Ranks:
    """Stands for torchrun: each start ends with the next of ``ends``. It has a clock that only sleep moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *ends: BaseException | None) -> None:
        self.ends = list(ends)
        self.meetings: list[str] = []
        self.launches: list[tuple[str | None, str | None]] = []
        self.naps: list[float] = []
        self.now = 1000.0
        self.notes: list[dict[int, Note]] = []
        monkeypatch.setattr(launch, "run_ranks", self.run)
        monkeypatch.setattr(launch, "time", SimpleNamespace(time=lambda: self.now, sleep=self.sleep))
        # The launcher sets them; so they are put back when the test ends.
        for name in (launch.LAUNCHED_AT, launch.DIED_AT):
            monkeypatch.setenv(name, "")
            monkeypatch.delenv(name)

    def run(self, options: argparse.Namespace) -> BaseException | None:
        assert options.max_restarts == 0, "torchrun itself would start again after every end"
        self.meetings.append(options.rdzv_id)
        self.launches.append((os.environ.get(launch.LAUNCHED_AT), os.environ.get(launch.DIED_AT)))
        for rank, note in (self.notes.pop(0) if self.notes else {}).items():
            (Path(os.environ[FOLDER]) / str(rank)).write_bytes(msgspec.json.encode(note))
        return self.ends.pop(0)

    def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.now += seconds


def parsed(nodes: str = "1") -> argparse.Namespace:
    return argparse.Namespace(nnodes=nodes, rdzv_id="job", max_restarts=9)


def run_in_place(options: argparse.Namespace, job: launch.Job) -> int:
    """Run the ranks with a folder of notes that is removed at the end."""
    with contextlib.closing(NoteFolder()) as folder:
        return launch.run_in_place(options, job, folder)


@pytest.fixture
def job(tmp_path: Path) -> launch.Job:
    """A training in whose control group nothing was killed yet."""
    group = tmp_path / "group"
    group.mkdir()
    (group / "memory.events").write_text("oom 4\noom_kill 4\n")
    run = tmp_path / "run"
    options = parse([f"--run_dir={run}"])
    return launch.Job(
        options, launch.StopFile(run), MemoryWatch(group, group, kills_before=4), most_restarts=3
    )


def test_a_killed_rank_starts_again_and_is_told_when_the_ones_before_died(
    job: launch.Job, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ranks = Ranks(monkeypatch, died(rank1=-signal.SIGKILL), None)
    assert run_in_place(parsed(), job) == 0
    assert ranks.launches == [(None, None), ("1000.0", "1000.0")]
    assert ranks.meetings == ["job", "job"], "one node meets nobody"
    assert "start again in place, from the last checkpoint (1 of 3)" in capsys.readouterr().err


def test_a_fault_that_comes_back_ends_with_its_own_code(
    job: launch.Job, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ranks = Ranks(monkeypatch, *[died(rank0=-signal.SIGSEGV) for _ in range(9)])
    assert run_in_place(parsed(), job) == 128 + signal.SIGSEGV
    assert len(ranks.launches) == 1 + 3
    assert "no restart in place: the limit of 3 restarts is reached" in capsys.readouterr().err


@pytest.mark.parametrize(("heals", "starts", "code"), [(True, 2, 0), (False, 1, 1)])
def test_an_error_is_healed_only_if_the_rank_has_noted_that_it_may_be(
    job: launch.Job, monkeypatch: pytest.MonkeyPatch, heals: bool, starts: int, code: int
) -> None:
    ranks = Ranks(monkeypatch, died(rank2=1), None)
    ranks.notes = [{2: Note(step=7, heals=heals)}]
    assert run_in_place(parsed(), job) == code
    assert len(ranks.launches) == starts


def test_a_note_of_an_earlier_start_does_not_heal_a_later_error(
    job: launch.Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranks = Ranks(monkeypatch, died(rank2=1), died(rank2=1), None)
    ranks.notes = [{2: Note(step=7, heals=True)}]
    assert run_in_place(parsed(), job) == 1
    assert len(ranks.launches) == 2


@pytest.mark.parametrize("code", [2, 75, 200])
def test_an_end_that_is_no_fault_does_not_start_again_and_says_nothing_of_it(
    job: launch.Job, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], code: int
) -> None:
    ranks = Ranks(monkeypatch, died(rank0=code, rank1=-signal.SIGTERM))
    assert run_in_place(parsed(), job) == code
    assert (len(ranks.launches), ranks.naps) == (1, [])
    assert capsys.readouterr().err == ""


def test_nodes_that_start_again_meet_under_a_new_name_and_wait_for_the_slowest(
    job: launch.Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a death the ranks of other nodes may still be ending: a meeting that fails is no death."""
    silent = [RuntimeError("nobody came") for _ in range(4)]
    ranks = Ranks(monkeypatch, died(rank0=-signal.SIGKILL), *silent, None)
    assert run_in_place(parsed("2"), job) == 0
    assert ranks.meetings == ["job", *["job-1"] * 5]
    assert ranks.naps == [launch.MEETING_PAUSE_SECONDS] * 4


def test_a_node_that_never_comes_back_counts_as_a_death_each_time_and_ends_the_attempt(
    job: launch.Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranks = Ranks(monkeypatch, *[RuntimeError("nobody came") for _ in range(500)])
    assert run_in_place(parsed("1:2"), job) == 1
    assert sorted(set(ranks.meetings)) == ["job", "job-1", "job-2", "job-3"]
    assert ranks.naps[-1] == launch.LINGER_SECONDS, "the rendezvous of the others may be here"
    assert ranks.now - 1000.0 == pytest.approx(3 * launch.MEETING_SECONDS + launch.LINGER_SECONDS, abs=3.0)


def test_one_node_does_not_wait_for_others(job: launch.Job, monkeypatch: pytest.MonkeyPatch) -> None:
    ranks = Ranks(monkeypatch, RuntimeError("no port"))
    assert run_in_place(parsed("1:1"), job) == 1
    assert (len(ranks.launches), ranks.naps) == (1, [])


@pytest.mark.parametrize(
    ("codes", "told"),
    [
        ({0: -signal.SIGKILL, 1: 1}, ("host:1/0", 0)),
        ({1: 201}, ("host:1/1", 1)),
        ({0: 200, 1: 2, 2: 75}, None),
        ({0: 200, 1: 1}, ("host:1/1", 1)),
        ({3: 1}, None),
        ({3: 1, 1: 1}, ("host:1/1", 1)),
        ({}, None),
    ],
)
def test_other_nodes_are_told_once_of_a_death_and_never_of_a_stop(
    monkeypatch: pytest.MonkeyPatch, codes: dict[int, int], told: tuple[str, int] | None
) -> None:
    """Rank 3 died before it knew the store."""
    calls: list[tuple[str, int]] = []
    monkeypatch.setattr(investigation, "tell_lost", lambda exchange, rank: calls.append((exchange, rank)))
    notes = {rank: Note(exchange=f"host:1/{rank}") for rank in range(3)}
    launch.tell_other_nodes(codes, notes)
    assert calls == ([told] if told else [])


DEATH = {1: -int(signal.SIGKILL)}


def test_a_death_of_a_training_is_no_obstacle(job: launch.Job) -> None:
    assert job.obstacle(DEATH, {}, restarts=2) == ""
    assert job.obstacle(DEATH, {}, restarts=3) == "the limit of 3 restarts is reached"


def test_what_only_evaluates_does_not_start_again(job: launch.Job) -> None:
    assert dataclasses.replace(job, stop=None).obstacle(DEATH, {}, 0) == "this is no training"
    assert dataclasses.replace(job, options=None).obstacle(DEATH, {}, 0) == "this is no training"


def test_a_stop_of_anybody_is_obeyed_and_not_trained_over(job: launch.Job) -> None:
    assert job.stop
    job.stop.path.parent.mkdir()
    job.stop.path.write_text("cancel\n")
    assert job.obstacle(DEATH, {}, 0) == "a stop was requested"
    job.stop.path.unlink()

    # A rank may have removed the file; the launcher was still asked.
    job.stop.asked = True
    assert job.obstacle(DEATH, {}, 0) == "a stop was requested"


def test_a_kill_for_memory_would_come_again(job: launch.Job) -> None:
    (job.memory.folder / "memory.events").write_text("oom 5\noom_kill 5\n")
    assert job.obstacle(DEATH, {}, 0) == "the kernel killed a process for memory"


@pytest.mark.parametrize("attempt", [2, None])
def test_a_hang_of_this_attempt_is_not_repeated_in_place(
    job: launch.Job, tmp_path: Path, attempt: int | None
) -> None:
    run = tmp_path / "run"
    job = dataclasses.replace(
        job, options=parse([f"--run_dir={run}", *([f"--attempt={attempt}"] if attempt else [])])
    )
    for number in (1, 2):
        hang_file(run, number).parent.mkdir(parents=True)
    hang_file(run, 1).write_text("{}")
    assert job.obstacle(DEATH, {}, 0) == ""
    hang_file(run, 2).write_text("{}")
    assert job.obstacle(DEATH, {}, 0) == "training hung"

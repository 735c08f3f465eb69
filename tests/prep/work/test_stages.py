"""The stages of a job follow from its options, and a task's errors are said in words."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from jobctl.jobs.core.errors import UserError
from jobctl.prep.work.stages import Runs, Stage, guarded, shards, stages
from jobctl.prep.work.unit import UnitJob, load_record, record_file
from tests.prep.conftest import MakeUnit, lines, some_texts


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "text"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.jsonl").write_bytes(lines(some_texts(100, number)))
    (folder / "valid.jsonl").write_bytes(lines(some_texts(20, 9)))
    return folder


def seen(bytes_read: int, tokens: int) -> None: ...


def done_in_order(work: UnitJob) -> list[str]:
    """Do every task of every stage, and return the stages' names."""
    names = []
    for stage in stages(work):
        names.append(stage.name)
        for index in range(stage.count):
            stage.do(index, seen)
        assert stage.undone(range(stage.count)) == []
    return names


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, ["tokenizing"]),
        ({"duplicates": "exact"}, ["hashing", "listing-keys", "matching", "tokenizing"]),
        ({"shuffle": 1}, ["tokenizing", "listing-documents", "shuffling"]),
        (
            {"validation_files": ("valid*",), "duplicates": "near", "shuffle": 1},
            [
                "holding-out",
                "hashing",
                "listing-keys",
                "matching",
                "tokenizing",
                "listing-documents",
                "shuffling",
            ],
        ),
    ],
    ids=["plain", "duplicates", "shuffle", "all"],
)
def test_a_stage_comes_after_those_whose_results_it_reads(
    folder: Path, unit_job: MakeUnit, options: dict[str, Any], names: list[str]
) -> None:
    assert done_in_order(unit_job(folder, **options)) == names


def test_a_task_done_twice_leaves_the_same_record(folder: Path, unit_job: MakeUnit) -> None:
    """A worker that was taken for dead may come back and end its task beside another one."""
    work = unit_job(folder)
    (stage,) = stages(work)
    records = []
    for _ in range(2):
        stage.do(0, seen)
        records.append(record_file(work.output, stage.name, 0).read_bytes())
    assert records[0] == records[1]


def test_training_comes_before_validation_however_the_shards_were_made(
    folder: Path, unit_job: MakeUnit
) -> None:
    work = unit_job(folder, shuffle=1, shard_bytes=3000)
    done_in_order(work)
    records = [load_record(work.output, unit) for unit in range(len(work.units))]
    splits = [shard.split for shard in shards(work, records)]
    assert splits.count("train") > 1
    assert splits == sorted(splits)
    assert "val" in splits


def test_runs_are_listed_in_the_order_of_their_units() -> None:
    runs = Runs(counts=[2, 0, 1], total=9)
    names = [path.name for path in runs.files(Path("runs"))]
    assert names == sorted(names)
    assert len(names) == 3


def failing(output: Path, error: OSError) -> Stage:
    def do(index: int, seen: object) -> None:
        raise error

    return Stage("tokenizing", 1, 0, output, do)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (errno.ENOSPC, "the disk of .* is full"),
        (errno.EDQUOT, "the quota of the disk of"),
        (errno.EIO, "cannot write"),
    ],
)
def test_an_error_of_the_file_system_says_that_nothing_is_lost(tmp_path: Path, code: int, said: str) -> None:
    with pytest.raises(UserError, match=said) as refused:
        guarded(failing(tmp_path, OSError(code, "it fails")), 0, seen)
    assert refused.value.code == 1
    assert "run the same command again" in refused.value.hint


@pytest.mark.parametrize("ended_by", ["its own record", "the end of the job"])
def test_a_task_whose_files_another_worker_has_finished_and_cleared_is_done(
    folder: Path, unit_job: MakeUnit, ended_by: str
) -> None:
    work = unit_job(folder)
    stage = failing(work.output, FileNotFoundError(errno.ENOENT, "a run is gone"))
    with pytest.raises(UserError, match="cannot write"):
        guarded(stage, 0, seen)

    if ended_by == "its own record":
        record_file(work.output, stage.name, 0).write_text("{}")
    else:
        (work.output / "meta.json").write_text("{}")
    guarded(stage, 0, seen)

"""A job's folder belongs to one job, and its key is what decides the result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from jobctl.jobs.catalog.data import DatasetEntry, PrepConfig
from jobctl.jobs.core.errors import UserError
from jobctl.prep.encode import tokenizers
from jobctl.prep.shards.format import TokenizerRecord
from jobctl.prep.work import job as jobs
from jobctl.prep.work.job import BULKY, FOLDERS, FREE, JOB_FILE, Job, create, load, work_dir

JOB = Job(
    dataset="mine",
    entry=DatasetEntry(summary="test", license="none"),
    tokenizer=TokenizerRecord(name="gpt2", file="tokenizer.json", sha256="0"),
    tokens=tokenizers.entry_of("gpt2"),
    config=PrepConfig(),
)


def with_options(**changes: Any) -> Job:
    return msgspec.structs.replace(JOB, config=msgspec.structs.replace(JOB.config, **changes))


@pytest.mark.parametrize(
    "change", [{"workers": 7}, {"stale_seconds": 9}, {"encoder": "reference"}, {"max_reject_share": 0.5}]
)
def test_options_that_change_no_byte_leave_the_job_the_same(change: dict[str, Any]) -> None:
    assert change.keys() <= FREE.keys()
    assert with_options(**change).key == JOB.key


@pytest.mark.parametrize(
    "change", [{"shard_bytes": 12345}, {"shuffle": 3}, {"duplicates": "exact"}, {"add_bos": True}], ids=str
)
def test_options_that_change_bytes_make_another_job(change: dict[str, Any]) -> None:
    assert with_options(**change).key != JOB.key


def test_every_option_either_changes_the_job_or_is_named_as_free() -> None:
    """A new option is in the key from its first day, because a wrong reuse is worse than a second run."""
    assert FREE.keys() <= set(PrepConfig.__struct_fields__)
    whole = msgspec.json.encode(JOB)
    assert all(f'"{name}"'.encode() in whole for name in PrepConfig.__struct_fields__)


def test_a_folder_is_made_once_and_used_by_all_workers(tmp_path: Path) -> None:
    output = tmp_path / "a" / "b"
    create(output, JOB)
    create(output, with_options(workers=5))
    assert load(output) == JOB
    assert all((work_dir(output) / folder).is_dir() for folder in FOLDERS)


def test_another_jobs_folder_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    create(tmp_path / "out", JOB)
    before = (work_dir(tmp_path / "out") / JOB_FILE).read_bytes()
    with pytest.raises(UserError, match="belongs to another job"):
        create(tmp_path / "out", with_options(shuffle=1))
    assert (work_dir(tmp_path / "out") / JOB_FILE).read_bytes() == before


def test_shards_that_no_job_of_the_folder_made_are_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "train.bin").write_bytes(b"somebody's tokens")
    with pytest.raises(UserError, match="has shards that no job of this folder made"):
        create(tmp_path, JOB)
    assert not (work_dir(tmp_path) / JOB_FILE).exists()


def test_a_place_that_cannot_be_made_is_an_error_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(UserError, match=r"cannot make .*out/\.prep: ") as refused:
        create(tmp_path / "file" / "out", JOB)
    assert "--output" in refused.value.hint


@pytest.mark.parametrize("text", ["", "{", '{"dataset": 3}'])
def test_a_damaged_record_is_named_with_what_to_do(tmp_path: Path, text: str) -> None:
    create(tmp_path, JOB)
    (work_dir(tmp_path) / JOB_FILE).write_text(text)
    with pytest.raises(UserError, match=r"job\.json is damaged") as refused:
        load(tmp_path)
    assert str(tmp_path) in refused.value.hint


def test_the_end_removes_what_is_large_and_keeps_every_record(tmp_path: Path) -> None:
    create(tmp_path, JOB)
    work = work_dir(tmp_path)
    for folder in BULKY:
        (work / folder / "data.npy").write_bytes(b"large")
    (work / "done/tokenizing/00000.json").write_text("{}")
    (work / "done/tokenizing/.00001.json.partial").write_text("a worker was killed here")
    jobs.clear(tmp_path)
    jobs.clear(tmp_path)
    assert not any((work / folder).exists() for folder in BULKY)
    assert [path.name for path in (work / "done/tokenizing").iterdir()] == ["00000.json"]
    assert load(tmp_path) == JOB

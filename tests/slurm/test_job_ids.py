"""The ids of a run's jobs are kept in its directory, and nothing in that file can stop a command."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from jobctl.slurm.job_ids import job_ids_file, read_job_ids, record_job_id


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "logs").mkdir()
    return tmp_path


def test_each_job_is_recorded_once_in_the_order_of_ids(run: Path) -> None:
    for job in ("9", "10", "9", "100"):
        record_job_id(run, job)

    assert job_ids_file(run).read_text() == "9\n10\n100\n"
    assert read_job_ids(run) == {"9", "10", "100"}


def test_a_run_without_the_file_has_no_recorded_job(run: Path) -> None:
    assert read_job_ids(run) == set()


def test_lines_that_are_no_ids_are_passed_over(run: Path) -> None:
    job_ids_file(run).write_bytes(b"12\n; scancel 1\n\xff\xfe\n12_3\n 14\n15\n")

    assert read_job_ids(run) == {"12", "15"}


def test_a_pipe_in_its_place_does_not_hang(run: Path) -> None:
    os.mkfifo(job_ids_file(run))

    assert read_job_ids(run) == set()


def test_nothing_half_written_is_seen(run: Path) -> None:
    record_job_id(run, "7")
    before = job_ids_file(run).stat().st_ino
    record_job_id(run, "8")

    assert job_ids_file(run).stat().st_ino != before
    assert [path.name for path in job_ids_file(run).parent.iterdir()] == ["slurm-jobs"]

"""How attempts end: the words of the logs count only where an attempt failed."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobctl.jobs.monitoring.checks.ending import SAID
from tests.jobs.monitoring.checks.faults import failed, healthy, log_line
from tests.jobs.monitoring.checks.test_diagnosis import findings
from tests.jobs.monitoring.runs import write_attempt


def test_what_an_attempt_survived_is_no_matter(tmp_path: Path) -> None:
    healthy(tmp_path)
    log_line(tmp_path, "OSError: [Errno 28] No space left on device")
    assert findings(tmp_path) == []


def test_a_run_that_still_goes_on_is_asked(tmp_path: Path) -> None:
    failed(tmp_path, "torch.OutOfMemoryError: CUDA out of memory")
    write_attempt(tmp_path, 1)
    assert [finding.check for finding in findings(tmp_path)] == ["gpu_out_of_memory"]


@pytest.mark.parametrize(
    ("line", "check"),
    [
        (
            "FileNotFoundError: [Errno 2] No such file or directory: '/root/datasets/x/train.bin'",
            "data_missing",
        ),
        ("train-00003.bin: its checksum differs from meta.json", "data_damaged"),
        ("Timeout (0:30:00)!", "hang"),
        ("RuntimeError: index out of range in self", "wrong_ids"),
        ("torch.distributed.DistBackendError: NCCL WARN socket timed out", "network"),
    ],
)
def test_further_words(tmp_path: Path, line: str, check: str) -> None:
    failed(tmp_path, line)
    assert [finding.check for finding in findings(tmp_path)] == [check]


def test_a_cancelled_run_is_not_ill(tmp_path: Path) -> None:
    failed(tmp_path, "the user has ended it", 143)
    assert findings(tmp_path) == []


def test_failures_have_names_of_their_own() -> None:
    names = [words.check for words in SAID]
    assert len(set(names)) == len(names) >= 12

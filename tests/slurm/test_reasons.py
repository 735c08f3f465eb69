"""A person reads why the job waits, when it starts, and how it ended."""

from __future__ import annotations

import time

import pytest

from jobctl.slurm.jobs import Job
from jobctl.slurm.reasons import job_words, waiting_words

NOON = time.mktime((2026, 11, 24, 12, 0, 0, 0, 0, -1))


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("Resources", "waiting for free nodes"),
        ("(Priority)", "jobs of higher priority are before it"),
        (
            "ReqNodeNotAvail, UnavailableNodes:n2",
            "a node it needs is down, drained or reserved (UnavailableNodes:n2)",
        ),
        ("QOSMaxGRESPerUser", "the QoS's limit is reached: gres (QOSMaxGRESPerUser)"),
        (
            "AssocGrpCPURunMinutesLimit",
            "the account's limit is reached: cpu run minutes (AssocGrpCPURunMinutesLimit)",
        ),
        ("SomethingNewFrom2027", "something new from2027"),
        ("None", "Slurm has not looked at it yet"),
    ],
)
def test_reasons(reason: str, words: str) -> None:
    assert waiting_words(reason) == words


def test_the_expected_start_is_told_in_both_ways() -> None:
    job = Job(id="1", name="x", state="PENDING", reason="Resources", started=int(NOON) + 3 * 3600 + 300)
    assert job_words(job, NOON) == "waiting for free nodes; expected to start in 3 h 05 min, at 15:05"
    later = Job(id="1", name="x", state="PENDING", reason="Priority", started=int(NOON) + 26 * 3600)
    assert job_words(later, NOON).endswith("expected to start in 1 d 02 h, at 14:00 on 2026-11-25")
    assert "expected" not in job_words(Job(id="1", name="x", state="PENDING", started=int(NOON) - 5), NOON)


@pytest.mark.parametrize(
    ("job", "words"),
    [
        (Job(id="1", name="x", state="RUNNING", node_list="n[1-2]"), "running on n[1-2]"),
        (Job(id="1", name="x", state="COMPLETING", node_list="n1"), "ending on n1"),
        (Job(id="1", name="x", state="COMPLETED", exit_code=0), "finished"),
        (Job(id="1", name="x", state="FAILED", exit_code=2), "failed with exit code 2"),
        (Job(id="1", name="x", state="FAILED", exit_code=0, signal=9), "failed by signal 9"),
        (
            Job(id="1", name="x", state="FAILED", reason="BadConstraints"),
            "failed: no node has what it asks for",
        ),
        (Job(id="1", name="x", state="NODE_FAIL"), "stopped because a node died"),
        (Job(id="1", name="x", state="SOME_NEW_STATE"), "some new state"),
    ],
)
def test_states(job: Job, words: str) -> None:
    assert job_words(job, NOON) == words

"""Which deaths a restart in place may heal."""

from __future__ import annotations

import signal

import pytest

from jobctl.trainer.lifecycle.rank_notes import Note
from jobctl.trainer.lifecycle.restarts import error_heals, first_failures, obstacle

HEALS = Note(step=7, heals=True)


@pytest.mark.parametrize(
    "codes",
    [{1: -signal.SIGKILL}, {1: -signal.SIGSEGV}, {0: -signal.SIGABRT, 1: 1}, {1: 1}],
)
def test_a_killed_rank_or_an_error_of_a_network_is_healed(codes: dict[int, int]) -> None:
    assert obstacle(codes, {1: HEALS}, restarts=0) == ""


@pytest.mark.parametrize(
    ("codes", "reason"),
    [
        ({3: 201}, "rank 3 met broken hardware"),
        ({3: -signal.SIGKILL, 4: 201}, "rank 4 met broken hardware"),
        ({3: -signal.SIGTERM}, "rank 3 was ended by SIGTERM"),
        ({3: 2}, "rank 3 ended with exit code 2, and a restart would not help"),
        ({3: 1}, "rank 3 ended with exit code 1, and a restart would not help"),
        ({3: 200}, "rank 3 ended with exit code 200, and a restart would not help"),
        ({1: 1, 3: 1}, "rank 3 ended with exit code 1, and a restart would not help"),
        ({}, "no rank has failed"),
    ],
)
def test_what_would_come_again_is_not_healed(codes: dict[int, int], reason: str) -> None:
    assert obstacle(codes, {1: HEALS}, restarts=0) == reason


def test_tries_are_bounded() -> None:
    codes = {1: -int(signal.SIGKILL)}
    assert obstacle(codes, {}, restarts=2) == ""
    assert obstacle(codes, {}, restarts=3) == "the limit of 3 restarts is reached"
    assert obstacle(codes, {}, restarts=0, most=0) == "the limit of 0 restarts is reached"


@pytest.mark.parametrize(
    ("words", "heals"),
    [
        ("NCCL error in: ProcessGroupNCCL.cpp:3690, remote process exited", True),
        ("CUDA error: an illegal memory access was encountered", True),
        ("[pair.cc:553] Connection closed by peer [127.0.0.1]:3131", True),
        ("CUDA error: device-side assert triggered", False),
        ("CUDA out of memory. Tried to allocate 2 GiB", False),
        ("loss or gradient was not finite for 20 steps in a row", False),
    ],
)
def test_errors_that_new_processes_may_not_meet_are_told_from_others(words: str, heals: bool) -> None:
    assert error_heals(RuntimeError(words)) is heals


@pytest.mark.parametrize(
    ("codes", "own"),
    [
        ({0: -signal.SIGTERM, 1: -signal.SIGKILL}, {1: -signal.SIGKILL}),
        ({0: -signal.SIGTERM, 1: 201, 2: -signal.SIGTERM}, {1: 201}),
        ({0: -signal.SIGTERM, 1: -signal.SIGTERM}, {0: -signal.SIGTERM, 1: -signal.SIGTERM}),
        ({1: 1}, {1: 1}),
        ({}, {}),
    ],
)
def test_a_rank_that_torchrun_ended_after_another_one_is_no_reason(
    codes: dict[int, int], own: dict[int, int]
) -> None:
    assert first_failures(codes) == own

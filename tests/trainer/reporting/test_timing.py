"""The time of a step by part."""

from __future__ import annotations

import pytest
import torch

from jobctl.trainer.reporting.timing import StepTimer


def test_the_parts_of_a_step_are_measured() -> None:
    timer = StepTimer(torch.device("cpu"))
    for _ in range(2):
        timer.begin_step()
        with timer.waiting_for_data():
            pass
        timer.mark("compute")
        timer.mark("optimizer")
    facts = timer.per_step_ms()
    assert set(facts) == {"dt_ms", "data_wait_ms", "compute_ms", "optimizer_ms"}
    assert 0 <= facts["compute_ms"] <= facts["dt_ms"]


def marks(timer: StepTimer) -> list[str]:
    return [part for part, _ in timer._marks]


def test_only_the_last_backward_pass_has_communication() -> None:
    timer = StepTimer(torch.device("cpu"))
    timer.begin_step()
    for last in (False, True):
        with timer.backward_pass(last):
            timer._end_compute()
    assert marks(timer) == ["begin", "compute", "communication"]


def test_a_last_backward_pass_without_a_reduction_has_none() -> None:
    timer = StepTimer(torch.device("cpu"))
    timer.begin_step()
    with timer.backward_pass(last=True):
        pass
    assert marks(timer) == ["begin"]


def test_a_new_interval_forgets_the_one_before() -> None:
    timer = StepTimer(torch.device("cpu"))
    timer.begin_step()
    timer.mark("compute")
    timer.reset()
    assert set(timer.per_step_ms()) == {"dt_ms", "data_wait_ms"}


def test_waiting_for_data_is_no_part_of_the_computation(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(100))
    monkeypatch.setattr("time.perf_counter", lambda: float(next(ticks)))
    timer = StepTimer(torch.device("cpu"))
    timer.begin_step()
    with timer.waiting_for_data():
        next(ticks)
    timer.mark("compute")
    facts = timer.per_step_ms()
    # Of the clock's ticks one is between the marks before the wait, and one after it.
    assert (facts["data_wait_ms"], facts["compute_ms"]) == (2000.0, 2000.0)

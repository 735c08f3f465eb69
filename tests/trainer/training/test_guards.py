import math

import pytest
import torch

from jobctl.trainer.data.samples import BatchLayout
from jobctl.trainer.training.guards import ENOUGH, WINDOW, BadSteps, LossScale, LossWindow, TooManyBadSteps

CPU = torch.device("cpu")


def filled(window: LossWindow, count: int) -> LossWindow:
    for i in range(count):
        assert not window.is_spike(torch.tensor(3.0 + 0.01 * (i % 7)))
    return window


def test_a_spike_stands_out_of_the_window_and_noise_does_not() -> None:
    window = filled(LossWindow(6.0, CPU), WINDOW)
    assert not window.is_spike(torch.tensor(3.08))
    assert window.is_spike(torch.tensor(4.0))
    assert not window.is_spike(torch.tensor(2.0))  # a loss that falls is welcome


def test_nothing_is_a_spike_before_there_is_a_window() -> None:
    window = filled(LossWindow(6.0, CPU), ENOUGH - 1)
    assert not window.is_spike(torch.tensor(100.0))
    assert window.is_spike(torch.tensor(100.0))


def test_a_new_level_is_accepted_in_the_end() -> None:
    window = filled(LossWindow(6.0, CPU), WINDOW)
    verdicts = [bool(window.is_spike(torch.tensor(5.0))) for _ in range(WINDOW)]
    assert verdicts[0]
    assert not verdicts[-1]


def test_the_window_forgets_what_is_not_a_number() -> None:
    window = filled(LossWindow(6.0, CPU), WINDOW)
    for _ in range(WINDOW):
        window.is_spike(torch.tensor(math.nan))
    assert window.is_spike(torch.tensor(4.0))


def test_bad_steps_in_a_row_end_the_run_with_their_samples() -> None:
    guard = BadSteps(3, BatchLayout(2, 2, 2, 0))
    for step, finite in enumerate([False, False, True, False, False]):
        guard.count(step, step * 8, finite)
    with pytest.raises(
        TooManyBadSteps, match=r"3 steps in a row, up to step 5: samples 24 to 47 .* 40 to 47"
    ):
        guard.count(5, 40, False)
    assert guard.total == 5


def test_the_streak_goes_on_after_a_resume() -> None:
    with pytest.raises(TooManyBadSteps):
        BadSteps(3, BatchLayout(1, 1, 1, 0), streak=2).count(9, 9, False)


def test_the_loss_scale_halves_and_grows() -> None:
    scale = LossScale(CPU)
    scale.update(torch.tensor(True))
    assert scale.scale == 32768
    for _ in range(LossScale.GROWTH_INTERVAL):
        scale.update(torch.tensor(False))
    assert scale.scale == 65536
    assert scale.good_steps == 0

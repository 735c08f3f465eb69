"""Steps that must not be taken: non-finite ones, and loss spikes. Decided on the device, reported later."""

from __future__ import annotations

import dataclasses

import torch

from jobctl.trainer.data.samples import BatchLayout

WINDOW = 128
"""Losses that a spike is measured against."""
ENOUGH = 32
"""Losses without which nothing is called a spike."""
SIGMA = 1.4826
"""Standard deviations in a median absolute deviation, for a normal distribution."""


class LossWindow:
    """The last losses, on the device, and whether a new one stands out of them."""

    def __init__(self, sigmas: float, device: torch.device) -> None:
        self.sigmas = sigmas
        self.losses = torch.full((WINDOW,), float("nan"), device=device)

    def is_spike(self, loss: torch.Tensor) -> torch.Tensor:
        """Return whether ``loss`` is ``sigmas`` robust deviations above the median. Then remember it."""
        median = self.losses.nanmedian()
        deviation = (self.losses - median).abs().nanmedian() * SIGMA
        known = (~self.losses.isnan()).sum()
        # With few losses the deviation is small by chance, and each step would be a spike.
        spike = (loss > median + self.sigmas * deviation) & (known >= ENOUGH)
        # A NaN in the window would make the median of all later steps a NaN.
        remembered = torch.where(loss.isfinite(), loss, self.losses[0])
        self.losses = torch.cat([self.losses[1:], remembered.reshape(1)])

        return spike


class LossScale:
    """Dynamic loss scaling for float16 (Micikevicius et al., 2018, section 3.2), without a host sync."""

    # As in torch's GradScaler, and so is the first scale below.
    GROWTH_INTERVAL = 2000

    def __init__(self, device: torch.device) -> None:
        self.scale = torch.tensor(65536.0, device=device)
        self.good_steps = torch.tensor(0.0, device=device)

    def update(self, bad: torch.Tensor) -> None:
        """Halve after a step that overflowed, double after many that did not."""
        self.good_steps = torch.where(bad, 0.0, self.good_steps + 1)
        grow = self.good_steps >= self.GROWTH_INTERVAL
        self.scale = torch.where(bad, self.scale * 0.5, torch.where(grow, self.scale * 2, self.scale))
        self.good_steps = torch.where(grow, 0.0, self.good_steps)


class TooManyBadSteps(Exception):
    """The run cannot continue: its last steps all had a loss or a gradient that is not finite."""


@dataclasses.dataclass
class BadSteps:
    """The host's count of non-finite steps in a row, kept across log intervals."""

    limit: int
    layout: BatchLayout
    streak: int = 0
    total: int = 0

    def count(self, step: int, first_sample: int, finite: bool) -> None:
        """Take note of one step. Raises TooManyBadSteps at the limit."""
        self.streak = 0 if finite else self.streak + 1
        self.total += not finite
        if self.streak >= self.limit:
            size = self.layout.global_batch_size
            begin = first_sample - (self.streak - 1) * size
            raise TooManyBadSteps(
                f"loss or gradient was not finite for {self.streak} steps in a row, up to step {step}: samples "
                f"{begin} to {first_sample + size - 1} (the last step: {first_sample} to "
                f"{first_sample + size - 1})\n"
                "  lower --learning_rate, use --dtype=bfloat16 or float32, or resume from an earlier checkpoint; "
                "--max_bad_steps sets the limit"
            )

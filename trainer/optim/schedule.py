"""The learning rate of each step."""

from __future__ import annotations

import math

from jobctl.jobs.catalog.schema import TrainConfig


def learning_rate(step: int, train: TrainConfig) -> float:
    """Return the rate: linear warm-up, a cosine from ``learning_rate`` to ``min_lr``, then ``min_lr``.

    Steps count from 0. This is GPT-3's schedule (Brown et al. 2020, appendix B) in nanoGPT's form. Step 0
    already has a positive rate. Step ``warmup_iters`` has the peak. Step ``lr_decay_iters`` (``max_iters`` if
    that is 0) has the minimum. A run that is not longer than its warm-up never reaches the peak.
    """
    if step < train.warmup_iters:
        return train.learning_rate * (step + 1) / (train.warmup_iters + 1)

    end = train.lr_decay_iters or train.max_iters
    if step >= end:
        return train.min_lr

    progress = (step - train.warmup_iters) / (end - train.warmup_iters)

    return train.min_lr + 0.5 * (1.0 + math.cos(math.pi * progress)) * (train.learning_rate - train.min_lr)

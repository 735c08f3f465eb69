"""Questions for the tests of reports and words."""

from __future__ import annotations

from typing import Any

import msgspec

from jobctl.jobs.catalog.loader import load_hardware
from jobctl.jobs.catalog.schema import Site
from jobctl.jobs.estimate.rates import rates_of
from jobctl.jobs.estimate.report import Question
from jobctl.jobs.estimate.situation import usable_gib
from tests.jobs.estimate.trainings import training


def question(hardware: str = "h200", batch: int = 16, site: Site | None = None, **changes: Any) -> Question:
    """Return what a user asks of qwen3_1.8b on eight GPUs."""
    machine = load_hardware(hardware)
    made = Question(
        model_name="qwen3_1.8b",
        hardware_name=hardware,
        situation=training(
            "qwen3_1.8b", batch, hardware=hardware, ranks=8, gradient_accumulation_steps=8, max_iters=1000
        ),
        machine=machine,
        site=site or Site(),
        known=rates_of(machine),
        optimal_tokens=81.727e9,
        available_gib=usable_gib(machine),
    )
    return msgspec.structs.replace(made, **changes)

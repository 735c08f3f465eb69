"""The plan of a sweep: an arm for each combination of settings, and the trials of each arm. Pure data."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Purpose = Literal["fit", "time"]
"""``fit``: two short steps, to see whether the size has room. ``time``: steps of the whole batch, measured."""
Status = Literal["fits", "memory", "failed"]
"""``memory``: it had no room. ``failed``: it ended for another reason, or took too long."""
SHORT_ITERS = 2
SHORT_MICRO_STEPS = 2
"""A trial of purpose ``fit``: a step has one micro-step that keeps gradients and one that adds to them."""
INTERVALS = 3
"""A trial of purpose ``time`` has three intervals. The first one warms up, the others are measured."""


class Arm(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One combination of settings."""

    name: str
    """The settings that make it different, for people: ``sharding=zero1 tier=2``."""
    settings: dict[str, Any] = {}
    """Keys of the training that differ from the training as it was chosen."""
    batch_sizes: tuple[int, ...] = ()
    """The sizes to measure; empty: the largest that fits is looked for."""
    guess: int = 1
    """The largest size that fits, by the estimate."""
    problem: str = ""
    """Why it cannot be at all; such an arm has no trial."""


class Plan(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A whole sweep."""

    arms: tuple[Arm, ...]
    sequences: int = 0
    """Sequences of one rank in one step, which all arms share; 0: micro-steps are those of the settings."""
    interval: int = 3
    """Steps of each interval of a timed trial."""
    seconds: int = 900
    """Seconds that one trial may take."""
    is_array: bool = False
    """Whether each arm is a task of a scheduler's job array."""

    @property
    def tasks(self) -> int:
        """Tasks of the job array; 0 where the sweep is one job."""
        return len(self.arms) if self.is_array else 0


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """One fresh process, or one a rank."""

    arm: int
    batch_size: int
    purpose: Purpose

    @property
    def name(self) -> str:
        """Its folder below the folder of its arm."""
        return f"{self.purpose}-{self.batch_size}"


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one trial."""

    trial: Trial
    attempt: int
    """The attempt of the job that did it."""
    status: Status
    reason: str = ""
    """Why it did not go well, in one line."""
    gradient_accumulation_steps: int = 0
    memory_peak_gb: float | None = None
    """Memory of the first rank. On a CPU it is that of the whole process."""
    step_ms: float | None = None
    tokens_per_second: float | None = None
    """Sum over all ranks, or None if it was not measured."""
    mfu: float | None = None
    seconds: float = 0.0


def fixed_sizes(batch_sizes: tuple[int, ...]) -> Plan:
    """Return the guide's sweep: the same training with each of these sizes, a task of an array each."""
    arms = tuple(Arm(name=f"batch_size={size}", batch_sizes=(size,)) for size in batch_sizes)
    return Plan(arms=arms, is_array=True)


def micro_steps(plan: Plan, trial: Trial, configured: int) -> int:
    """Return the micro-steps of a trial; ``configured`` are those of the settings."""
    if trial.purpose == "fit":
        return SHORT_MICRO_STEPS

    return plan.sequences // trial.batch_size if plan.sequences else configured


def flags(plan: Plan, trial: Trial, configured: int) -> list[str]:
    """Return the trainer's flags of a trial, which come after those of the job and take their place."""
    settings: dict[str, Any] = {
        **plan.arms[trial.arm].settings,
        "batch_size": trial.batch_size,
        "gradient_accumulation_steps": micro_steps(plan, trial, configured),
        "max_iters": SHORT_ITERS if trial.purpose == "fit" else INTERVALS * plan.interval,
        "log_interval": 1 if trial.purpose == "fit" else plan.interval,
        # Evaluations, norms and traces would be measured as a part of the steps.
        "eval_iters": 1,
        "eval_interval": 1_000_000,
        "gradient_log_interval": 0,
        "init_from": "scratch",
        "profile": False,
    }

    return ["--trial=true", *(f"--{key}={value}" for key, value in settings.items())]

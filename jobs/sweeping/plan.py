"""The plan of a sweep: an arm for each combination of settings, and the trials of each arm. Pure data."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Purpose = Literal["fit", "time"]
"""``fit``: two short steps, to test whether the size fits. ``time``: measured steps of the whole batch."""
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
    """Settings that differ from the chosen training, by key."""
    batch_sizes: tuple[int, ...] = ()
    """The sizes to measure. If it is empty, the sweep looks for the largest that fits."""
    guess: int = 1
    """The largest size that fits, according to the estimate."""
    problem: str = ""
    """The reason why the arm is impossible. Such an arm has no trial."""


class Plan(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A whole sweep."""

    arms: tuple[Arm, ...]
    sequences: int = 0
    """Sequences of one rank in one step, for all arms. The value 0 keeps the micro-steps of the settings."""
    interval: int = 3
    """Steps of each interval of a timed trial."""
    seconds: int = 900
    """Seconds that one trial may take."""
    is_array: bool = False
    """True if each arm is a task of a scheduler's job array."""

    @property
    def tasks(self) -> int:
        """Return the tasks of the job array; 0 if the sweep is one job."""
        return len(self.arms) if self.is_array else 0


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """One fresh process, or one for each rank."""

    arm: int
    batch_size: int
    purpose: Purpose

    @property
    def name(self) -> str:
        """Return the name of its folder below the folder of its arm."""
        return f"{self.purpose}-{self.batch_size}"


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one trial."""

    trial: Trial
    attempt: int
    """The attempt of the job that ran it."""
    status: Status
    reason: str = ""
    """The reason of a failure, in one line."""
    gradient_accumulation_steps: int = 0
    memory_peak_gb: float | None = None
    """Memory of the first rank. On a CPU it is that of the whole process."""
    step_ms: float | None = None
    tokens_per_second: float | None = None
    """Sum over all ranks, or None if it was not measured."""
    mfu: float | None = None
    seconds: float = 0.0


def fixed_sizes(batch_sizes: tuple[int, ...]) -> Plan:
    """Return the guide's sweep: the same training with each of these sizes, one array task for each."""
    arms = tuple(Arm(name=f"batch_size={size}", batch_sizes=(size,)) for size in batch_sizes)
    return Plan(arms=arms, is_array=True)


def micro_steps(plan: Plan, trial: Trial, configured: int) -> int:
    """Return the micro-steps of a trial. ``configured`` are those of the settings."""
    if trial.purpose == "fit":
        return SHORT_MICRO_STEPS

    return plan.sequences // trial.batch_size if plan.sequences else configured


def flags(plan: Plan, trial: Trial, configured: int) -> list[str]:
    """Return the trainer's flags of a trial. They come after the flags of the job and override them."""
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

"""All checks of a run, in the order in which a person would ask."""

from __future__ import annotations

from jobctl.jobs.monitoring.checks import ending, learning, speed
from jobctl.jobs.monitoring.checks.finding import Finding, RunCheck, RunFacts

RUN_CHECKS: tuple[RunCheck, ...] = (*ending.CHECKS, *learning.CHECKS, *speed.CHECKS)
"""Checks of the end, of learning and of speed. ``diagnose`` adds one: a failure without a known cause."""
_FOLLOWS = {
    "loss_diverged": ("gradients_out_of_range", "loss_not_falling"),
    "loss_not_falling": ("gradients_out_of_range",),
    "bad_steps": ("loss_not_a_number", "died_by_signal"),
    "hang": ("silent", "network"),
    "broken_gpu": ("network", "died_by_signal"),
    "died_by_signal": ("network",),
    "wrong_ids": ("data_damaged", "wrong_configuration"),
    "data_damaged": ("wrong_configuration",),
    "data_missing": ("wrong_configuration",),
    "ranks_disagree": ("network", "hang"),
    "warmup_too_long": ("loss_not_falling",),
    "straggler": ("much_communication",),
}
"""Findings that only follow from another one, and say nothing more."""
_LEADS = frozenset(
    {"much_data_wait", "much_communication", "much_optimizer", "not_compiled", "slow_attention"}
)
"""Causes of a low MFU. If one of them is known, the finding of a low MFU adds nothing."""


def diagnose(facts: RunFacts) -> list[Finding]:
    """Return the faults of a run. A finding that only follows from another one is left out."""
    findings = [finding for check in RUN_CHECKS if (finding := check(facts)) is not None]
    names = {finding.check for finding in findings}
    dropped: set[str] = set()
    # A finding that is itself dropped still explains its effects.
    for cause, effects in _FOLLOWS.items():
        if cause in names:
            dropped.update(effects)

    if "low_mfu" in names and names & _LEADS:
        dropped.add("low_mfu")

    told = [finding for finding in findings if finding.check not in dropped]
    # This check runs only if no other knows the cause: the exit code alone says little.
    unexplained = None if told else ending.unexplained_failure(facts)
    return [unexplained] if unexplained else told

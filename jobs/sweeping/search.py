"""Choose the next trial from the outcomes alone, so that a sweep can continue after any end. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from jobctl.jobs.sweeping.plan import Outcome, Plan, Trial

MOST = 4096
"""The most sequences in a micro-batch. Larger micro-batches have no use."""
TIMED = 3
"""The number of fitting sizes that are timed, the largest first."""
PATIENCE = 3
"""An arm is given up after this many trials that failed for another reason than memory."""


def next_trial(plan: Plan, arm: int, outcomes: Sequence[Outcome]) -> Trial | None:
    """Return the next trial of an arm after its ``outcomes``; None if the arm is done."""
    chosen = plan.arms[arm]
    if chosen.problem or is_given_up(outcomes):
        return None

    if chosen.batch_sizes:
        return _not_yet_timed(arm, chosen.batch_sizes, outcomes)

    size = next_size(fits(outcomes), misses(outcomes), chosen.guess, plan.sequences or MOST)
    if size is not None:
        return Trial(arm=arm, batch_size=size, purpose="fit")

    return _not_yet_timed(arm, worth_timing(plan, outcomes), outcomes)


def is_given_up(outcomes: Sequence[Outcome]) -> bool:
    """Return whether an arm fails again and again for reasons that a smaller size does not remove."""
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    # After one size fits, each failure concerns only its own size.
    return len(failed) >= PATIENCE and not fits(outcomes)


def fits(outcomes: Sequence[Outcome]) -> set[int]:
    """Return the sizes that had room."""
    return {outcome.trial.batch_size for outcome in outcomes if outcome.status == "fits"}


def misses(outcomes: Sequence[Outcome]) -> set[int]:
    """Return the sizes that failed."""
    return {outcome.trial.batch_size for outcome in outcomes if outcome.status != "fits"}


def largest(outcomes: Sequence[Outcome]) -> int:
    """Return the largest size that had room in every trial; 0 if none had."""
    full = {outcome.trial.batch_size for outcome in outcomes if outcome.status == "memory"}
    return max(fits(outcomes) - full, default=0)


def next_size(fitting: set[int], missing: set[int], guess: int, most: int) -> int | None:
    """Return the next size to try in the search for the largest that fits; None if it is known.

    Steps away from ``guess``, doubled each time, find one that fits and one that does not. Bisection follows.
    """
    low = max(fitting, default=0)
    # A size that failed below a fitting one is not a bound: it failed for another reason.
    high = min((size for size in missing if size > low), default=most + 1)
    if high - low <= 1:
        return None

    first = min(max(guess, 1), most)
    if not fitting and not missing:
        return first

    # An estimate is seldom very wrong, so the first steps are small.
    stride = max(1, first // 8)
    if high > most:
        return min(most, low + (stride << (len(fitting) - 1)))
    if not low:
        return max(1, high - (stride << (len(missing) - 1)))

    return (low + high) // 2


def worth_timing(plan: Plan, outcomes: Sequence[Outcome]) -> tuple[int, ...]:
    """Return the sizes to time: those that divide the sequences of a step, the largest first.

    If a fitting size has no room when it is timed, the next smaller one takes its place.
    """
    most = max(fits([o for o in outcomes if o.trial.purpose == "fit"]), default=0)
    # Without a shared batch every size is a divisor: 0 % size is 0.
    divisors = [size for size in range(most, 0, -1) if plan.sequences % size == 0]
    missed = misses([o for o in outcomes if o.trial.purpose == "time"])
    usable = [size for size in divisors if size not in missed]
    return tuple(usable[:TIMED])


def _not_yet_timed(arm: int, sizes: Sequence[int], outcomes: Sequence[Outcome]) -> Trial | None:
    done = {outcome.trial.batch_size for outcome in outcomes if outcome.trial.purpose == "time"}
    for size in sizes:
        if size not in done:
            return Trial(arm=arm, batch_size=size, purpose="time")

    return None

"""Checks of the ends of attempts, by their records and the words in their logs."""

from __future__ import annotations

import statistics
from pathlib import Path

import msgspec

from jobctl.jobs.catalog.loader import load_file
from jobctl.jobs.core.amounts import clock
from jobctl.jobs.core.exit_codes import EXIT_HARDWARE, EXIT_USAGE
from jobctl.jobs.monitoring.checks.finding import LONGEST_EVIDENCE, Finding, RunCheck, RunFacts
from jobctl.jobs.monitoring.glance import glance

PAGE = "docs/training.md#stop-and-exit-codes"
MANY_REPEATED = 0.05
ASKED = (129, 130, 143)
"""Exit codes of signals that a person or a scheduler sends: no fault killed the attempt."""
FRUITLESS = 3
"""After so many attempts in a row without a new step, another attempt is useless."""


class Words(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A failure that the logs describe in words."""

    check: str
    pattern: str
    """A regular expression over one line."""
    cause: str
    remedy: str
    page: str


class _Failures(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    failures: tuple[Words, ...]


def _said(words: Words) -> RunCheck:
    def check(facts: RunFacts) -> Finding | None:
        # An error that an attempt survived does not matter. So only failed or running attempts are searched.
        if facts.last_exit_code in (0, 200) or (facts.last_exit_code is None and facts.history.summary):
            return None

        line = facts.search(words.pattern)
        if line is None:
            return None

        return Finding(
            check=words.check,
            cause=words.cause,
            evidence=f"{line[0]}: {line[1]}",
            remedy=words.remedy,
            page=words.page,
        )

    # `died_by_signal` tells these checks apart by their names.
    check.__name__ = words.check
    check.__doc__ = words.cause
    return check


def wrong_configuration(facts: RunFacts) -> Finding | None:
    """Report an attempt that was refused because of its configuration."""
    if facts.last_exit_code != EXIT_USAGE:
        return None

    line = facts.search(r"^(error|ERROR|jobctl)[: ]")
    return Finding(
        check="wrong_configuration",
        cause="The job refused its configuration. A retry does not help.",
        evidence=f"{line[0]}: {line[1]}" if line else "exit code 2",
        remedy="Correct the setting that the line names, and submit again.",
        page=PAGE,
    )


def broken_gpu(facts: RunFacts) -> Finding | None:
    """Report a GPU that its driver calls broken."""
    # The driver calls a fault of a GPU an Xid.
    line = facts.search(
        r"\bXid\b|uncorrectable ECC|GPU has fallen off the bus|CUDA error: unspecified launch failure"
    )
    # A run that ended well survived all errors of the driver.
    ill = facts.last_exit_code == EXIT_HARDWARE
    if not ill and (line is None or facts.last_exit_code in (0, 200)):
        return None

    last = facts.records.attempts[-1] if facts.records.attempts else None
    return Finding(
        check="broken_gpu",
        cause="A GPU is broken, or its driver lost it.",
        evidence=f"{line[0]}: {line[1]}"
        if line
        else f"exit code {EXIT_HARDWARE} on {last.nodes if last else '?'}",
        remedy="The next attempt avoids the node automatically. jobctl describe RUN names the node: report "
        "it to the administrators of the cluster.",
        page="docs/slurm.md",
    )


def silent(facts: RunFacts) -> Finding | None:
    """Report a run that has not ended, but no longer writes anything."""
    look = glance(facts.history, facts.records, facts.now)
    if look.state != "silent":
        return None

    silence = facts.now - (facts.history.last_write or facts.now)
    return Finding(
        check="silent",
        cause="The run has not ended, but it logs nothing: a rank hangs, the storage hangs, or the node is "
        "down.",
        evidence=f"nothing logged for {clock(silence)}; the last step is {look.step}, "
        f"at {look.ms_per_step_now or 0:,.0f} ms a step",
        remedy="Ask the scheduler whether the job still runs: jobctl status RUN. kill -USR1 makes a rank write "
        "its stacks into its log. The watchdog ends the job after hang_timeout seconds.",
        page="docs/training.md#hangs",
    )


def fruitless_attempts(facts: RunFacts) -> Finding | None:
    """Report attempts that end again and again without a new step."""
    # An attempt that was refused, because another one was running, could add no step.
    ended = [a for a in facts.records.attempts if a.exit_code not in (None, 0, 200) and a.reason != "busy"]
    segments = facts.history.segments[-FRUITLESS:]
    # An attempt that wrote a summary ended in order.
    stuck = len(segments) == FRUITLESS and len({s.last for s in segments}) == 1 and not facts.history.summary
    # Attempts that die before their first line have a record and no log.
    if not stuck and not (len(ended) >= FRUITLESS and len(facts.history.segments) < len(ended) - 1):
        return None

    step = segments[-1].last if segments else 0
    return Finding(
        check="fruitless_attempts",
        cause="Several attempts ended without a new step. The next attempt will probably end in the same "
        "way.",
        evidence=f"{len(facts.records.attempts) or len(segments)} attempts, the last step is {step}; exit codes "
        + (", ".join(str(a.exit_code) for a in ended[-5:]) or "not recorded"),
        remedy="Read the first error: jobctl logs RUN --attempt 1. If the same step fails each time, check "
        "its samples.",
        page=PAGE,
    )


def much_repeated(facts: RunFacts) -> Finding | None:
    """Report steps that were repeated, because an attempt ended long after its last checkpoint."""
    repeated = [segment.repeated for segment in facts.history.segments if segment.repeated]
    steps = facts.history.last_step
    # In a short run one interruption is already a large share.
    if not repeated or sum(repeated) < MANY_REPEATED * steps or steps < 100:
        return None

    return Finding(
        check="much_repeated",
        cause="The run repeated many steps, because attempts ended long after their last checkpoint.",
        evidence=f"{sum(repeated):,} of {steps:,} steps, {statistics.fmean(repeated):,.0f} an interruption; "
        f"checkpoint_interval {facts.setting('checkpoint_interval')}",
        remedy="Save more often: set a smaller checkpoint_interval. A save pauses the training for less "
        "than a second.",
        page="docs/training.md#checkpoints-and-resume",
    )


def died_by_signal(facts: RunFacts) -> Finding | None:
    """Report a rank that a signal ended, if no log gives the reason."""
    code = facts.last_exit_code
    # Ranks that communicated with a dead rank report network errors.
    told = any(check(facts) for check in _SAID_CHECKS if check.__name__ != NETWORK)
    # A code above 128 is a signal, and Linux has 64 signals.
    if code is None or not 128 < code < 193 or code in ASKED or told:
        return None

    line = facts.search(r"^error: rank \d+")
    return Finding(
        check="died_by_signal",
        cause=f"Signal {code - 128} ended a rank, and no log gives the reason.",
        evidence=f"{line[0]}: {line[1]}" if line else f"exit code {code}",
        remedy="Signal 9 usually means that memory ran out: request more. Signal 11 is a fault in a library. "
        "Signal 7 means that /dev/shm is full. dmesg on the node shows more.",
        page=PAGE,
    )


def unexplained_failure(facts: RunFacts) -> Finding | None:
    """Report a failure whose cause no other check knows."""
    code = facts.last_exit_code
    state = glance(facts.history, facts.records, facts.now).state
    if state != "failed" or code in ASKED:
        return None

    # The launcher's log comes first.
    lines = [(name, text.strip().splitlines()[-1]) for name, text in facts.logs.items() if text.strip()]
    last = f"; the last line of {lines[0][0]}: {lines[0][1][:LONGEST_EVIDENCE]}" if lines else ""
    ended = "the log reports a failure" if code is None else f"exit code {code}"
    return Finding(
        check="unexplained_failure",
        cause="The run failed for a reason that no check knows.",
        evidence=f"{ended}{last or '; it wrote no log'}",
        remedy="Read its log: jobctl logs RUN. For one rank: jobctl logs RUN --rank N.",
        page=PAGE,
    )


SAID = load_file(Path(__file__).with_name("failures.yaml"), _Failures).failures
NETWORK = "network"
_SAID_CHECKS: tuple[RunCheck, ...] = tuple(map(_said, SAID))
CHECKS: tuple[RunCheck, ...] = (
    *_SAID_CHECKS,
    wrong_configuration,
    broken_gpu,
    silent,
    fruitless_attempts,
    much_repeated,
    died_by_signal,
)

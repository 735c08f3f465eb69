"""Checks of the speed of a run. They name the part of a step that is too slow. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from jobctl.jobs.monitoring.analysis import analyse, memory_total_gb
from jobctl.jobs.monitoring.checks.finding import Finding, RunCheck, RunFacts
from jobctl.jobs.monitoring.history import Interval, column, finite
from jobctl.jobs.monitoring.steady import steady

PAGE = "docs/performance.md"
LOW_MFU = 0.20
"""The guide's bound."""
MOST_DATA_WAIT = 0.10
MOST_DATA_WAIT_ON_CPU = 0.30
"""Share of a step on a CPU, which computes and also reads. A small model's steps are short on it."""
MOST_COMMUNICATION = 0.25
MOST_COMMUNICATION_ON_CPU = 0.75
"""Share of a step on a CPU. Ranks share the cores, so one waits while the other computes."""
MOST_OPTIMIZER = 0.25
SLOWER = 1.2
"""A step's computation may later take this many times its early duration."""
FULL_MEMORY = 0.97
MOST_PAUSES = 0.05
ENOUGH_INTERVALS = 5
RECENT_INTERVALS = 20
"""The newest intervals of the ranks' times. Older ones do not matter."""
OFTEN_THE_SAME = 0.8
SLOW_RANK = 1.15
"""A slow rank works this many times as long as usual. Equal GPUs differ by a few percent."""
SLOW_RANK_ON_CPU = 4.0
"""The same bound on a CPU. Other programs of the node share its cores."""
REMEDIES = {
    "data_wait": "Read ahead: --set use_dataloader=true --set dataloader_num_workers=4. Keep the data on "
    "local or fast storage.",
    "communication": "Use a larger batch_size or more gradient_accumulation_steps: a token then needs less "
    "communication. Measure the network with a preflight job: jobctl submit preflight.",
    "optimizer": "Use more gradient_accumulation_steps: the optimiser runs once a step, even if the step "
    "is larger.",
    "compute": "Use the largest batch_size that fits (jobctl sweep --find-batch), compile=true and "
    "kernels=auto. Check which attention the start of the log names.",
    "other": "The host is the limit. Check the CPU's load and the other programs on the node.",
}


def _steady(facts: RunFacts) -> Sequence[Interval]:
    return steady(facts.history).intervals


def _shares(facts: RunFacts) -> dict[str, float]:
    return analyse(facts.history).split if len(_steady(facts)) >= ENOUGH_INTERVALS else {}


def low_mfu(facts: RunFacts) -> Finding | None:
    """Report an MFU below the guide's bound, and the part of the step that causes it."""
    mfu = analyse(facts.history).mfu
    if mfu is None or mfu >= LOW_MFU or len(_steady(facts)) < ENOUGH_INTERVALS:
        return None

    shares = _shares(facts)
    # Computation is the largest part of every step. So each part is compared with its usual share.
    usual = {"compute": 0.9, "optimizer": 0.04, "communication": 0.02, "data_wait": 0.01, "other": 0.03}
    blame = max(shares, key=lambda part: shares[part] - usual[part], default="compute")
    return Finding(
        check="low_mfu",
        cause=f"The MFU is low. The cause is: {blame.replace('_', ' ')}.",
        evidence=f"MFU {mfu:.1%}; of a step: "
        + (
            ", ".join(f"{part.replace('_', ' ')} {share:.0%}" for part, share in shares.items())
            or "not measured"
        ),
        remedy=REMEDIES[blame],
        page=PAGE,
    )


def _large_share(facts: RunFacts, part: str, most: float, words: str) -> Finding | None:
    share = _shares(facts).get(part, 0.0)
    if share <= most:
        return None

    return Finding(
        check=f"much_{part}",
        cause=words,
        evidence=f"{share:.0%} of a step's time; more than {most:.0%} is too much",
        remedy=REMEDIES[part],
        page=PAGE,
    )


def much_data_wait(facts: RunFacts) -> Finding | None:
    """Report steps that wait for their data."""
    most = MOST_DATA_WAIT if facts.on_gpu else MOST_DATA_WAIT_ON_CPU
    return _large_share(facts, "data_wait", most, "The steps wait for data.")


def much_communication(facts: RunFacts) -> Finding | None:
    """Report communication that does not overlap computation."""
    words = "A large part of a step is communication that computation does not hide."
    most = MOST_COMMUNICATION if facts.on_gpu else MOST_COMMUNICATION_ON_CPU
    return _large_share(facts, "communication", most, words)


def much_optimizer(facts: RunFacts) -> Finding | None:
    """Report an optimiser that takes too long. On a CPU this is normal for small models."""
    if not facts.on_gpu:
        return None

    return _large_share(facts, "optimizer", MOST_OPTIMIZER, "The optimiser takes a large part of a step.")


def becomes_slower(facts: RunFacts) -> Finding | None:
    """Report a computation that takes longer than before: a GPU lowers its clock, or shares its node."""
    intervals = _steady(facts)
    # Other tools do not log the parts of a step.
    times = finite(i.compute_ms or i.dt_ms for i in intervals)
    # A CPU becomes slower whenever another program runs on it.
    if not facts.on_gpu or len(times) < 4 * ENOUGH_INTERVALS:
        return None

    # The medians of two quarters ignore single slow intervals.
    quarter = len(times) // 4
    early = statistics.median(times[:quarter])
    late = statistics.median(times[-quarter:])
    if late < SLOWER * early:
        return None

    return Finding(
        check="becomes_slower",
        cause="The same computation takes longer than at the start: a GPU may have lowered its clock.",
        evidence=f"{early:,.1f} ms of computation a step at the start, {late:,.1f} ms now",
        remedy="Run nvidia-smi -q -d PERFORMANCE,TEMPERATURE on the node: it shows throttling and the "
        "reason. To measure each GPU: jobctl submit preflight. To avoid a bad node: --set exclude=NODE.",
        page=PAGE,
    )


def uneven_steps(facts: RunFacts) -> Finding | None:
    """Report single intervals that take several times as long as usual."""
    intervals = _steady(facts)
    times = finite(column(intervals, "dt_ms"))
    if not facts.on_gpu or len(times) < 4 * ENOUGH_INTERVALS:
        return None

    middle = statistics.median(times)
    slow = [i for i in intervals if i.dt_ms > 2 * middle]
    # A few slow intervals include an evaluation or a save.
    if len(slow) < max(3, len(times) // 20):
        return None

    worst = max(slow, key=lambda i: i.dt_ms)
    return Finding(
        check="uneven_steps",
        cause="Some steps stall.",
        evidence=f"{len(slow)} of {len(times)} intervals take over twice the usual {middle:,.0f} ms a step; "
        f"the worst ends with step {worst.iter}: {worst.dt_ms:,.0f} ms, with {worst.data_wait_ms:,.0f} ms "
        "of data wait",
        remedy="If it is data wait, the storage stalls. Otherwise look for other jobs on the node, and "
        "check the network.",
        page=PAGE,
    )


def straggler(facts: RunFacts) -> Finding | None:
    """Report one rank whose own work takes longer than that of the others. All others wait for it."""
    # The first interval compiles and warms up.
    recent = facts.history.rank_times[1:][-RECENT_INTERVALS:]
    if len(recent) < ENOUGH_INTERVALS:
        return None

    ranks = [times.slowest for times in recent]
    rank = max(set(ranks), key=ranks.count)
    slow = [times for times in recent if times.slowest == rank]
    # A logged median of 0 must not be a divisor.
    ratio = statistics.median(times.slowest_ms / max(times.median_ms, 1e-3) for times in slow)
    most = SLOW_RANK if facts.on_gpu else SLOW_RANK_ON_CPU
    # Without a straggler, chance makes another rank the slowest each time.
    if len(slow) < OFTEN_THE_SAME * len(recent) or ratio < most:
        return None

    return Finding(
        check="straggler",
        cause="One rank needs more time than the others in each step, and all others wait for it.",
        evidence=f"rank {rank} is the slowest in {len(slow)} of the last {len(recent)} intervals: "
        f"{slow[-1].slowest_ms:,.1f} ms a step, the median rank {slow[-1].median_ms:,.1f} ms",
        remedy="Check this rank's GPU and node for another job, heat, or a slow disk. To measure each GPU: "
        "jobctl submit preflight. To avoid a bad node: --set exclude=NODE.",
        page=PAGE,
    )


def not_compiled(facts: RunFacts) -> Finding | None:
    """Report a long run on a GPU whose blocks are neither fused nor compiled."""
    startup = facts.history.startup
    fast = startup.get("fused") or facts.setting("compile") or startup.get("compile")
    # Compilation pays in long runs only, and other tools do not log this setting.
    if not facts.on_gpu or fast or facts.history.max_iters < 200 or facts.setting("compile") is None:
        return None

    return Finding(
        check="not_compiled",
        cause="The model runs without compilation and without fused kernels.",
        evidence=f"compile {facts.setting('compile')}, kernels: {startup.get('kernels')}",
        remedy="Use --set compile=true --set kernels=auto: the run gets 20 to 30% faster.",
        page=PAGE,
    )


def slow_attention(facts: RunFacts) -> Finding | None:
    """Report attention that writes its whole matrix to memory, on a GPU."""
    backend = str(facts.history.startup.get("attention_backend") or "")
    if not facts.on_gpu or not any(word in backend for word in ("manual", "math")):
        return None

    passed = facts.history.startup.get("attention_passed_over") or "asked for"
    return Finding(
        check="slow_attention",
        cause="The run uses the slowest form of attention.",
        evidence=f"attention {backend} ({passed})",
        remedy="Use --set attention_backend=auto. The start of the log says why jobctl did not choose a "
        "faster one.",
        page=PAGE,
    )


def memory_nearly_full(facts: RunFacts) -> Finding | None:
    """Report a GPU with little free memory: a longer evaluation or fragmentation can end the run."""
    total = memory_total_gb(str(facts.history.startup.get("device") or ""))
    peak = max(finite(column(facts.history.intervals, "memory_peak_gb")), default=0.0)
    if total is None or peak < FULL_MEMORY * total:
        return None

    return Finding(
        check="memory_nearly_full",
        cause="The GPU's memory is almost full: a larger allocation would end the run.",
        evidence=f"{peak:.1f} GB of {total:.1f} GB at the peak",
        remedy="Halve batch_size and double gradient_accumulation_steps, or use --set use_zero1=true.",
        page=PAGE,
    )


def storage_too_slow(facts: RunFacts) -> Finding | None:
    """Report checkpoints that busy storage made the run skip, or that stop the training for long."""
    history = facts.history
    seconds = sum(i.seconds for i in history.intervals)
    paused = sum(save.checkpoint_pause_ms + save.checkpoint_wait_ms for save in history.saves) / 1e3
    skipped = len(history.skipped_saves)
    # In a short test a save is a large share, and 30 s do not matter.
    if not skipped and (paused < MOST_PAUSES * seconds or paused < 30.0):
        return None

    slowest = max((save.write_seconds for save in history.saves), default=0.0)
    return Finding(
        check="storage_too_slow",
        cause="Storage is too slow for the checkpoints.",
        evidence=f"{skipped} saves skipped, {paused:,.0f} s of pauses for other saves; "
        f"the slowest save took {slowest:,.0f} s",
        remedy="Save less often (a larger checkpoint_interval), or put the run's root on faster storage.",
        page="docs/training.md#checkpoints-and-resume",
    )


CHECKS: tuple[RunCheck, ...] = (
    low_mfu,
    much_data_wait,
    much_communication,
    much_optimizer,
    becomes_slower,
    uneven_steps,
    straggler,
    not_compiled,
    slow_attention,
    memory_nearly_full,
    storage_too_slow,
)

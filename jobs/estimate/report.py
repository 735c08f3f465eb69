"""The whole estimate of a training: the output of ``jobctl estimate``, and the line of a submission."""

from __future__ import annotations

from typing import Any

import msgspec

from jobctl.jobs.catalog import arithmetic
from jobctl.jobs.catalog.entries import HardwareEntry
from jobctl.jobs.catalog.schema import Site
from jobctl.jobs.estimate.batch import fits, largest_batch, needed_gib, room_gib
from jobctl.jobs.estimate.memory import checkpoint_bytes, host_gib, memory
from jobctl.jobs.estimate.rates import Basis, Known
from jobctl.jobs.estimate.situation import Situation, usable_gib
from jobctl.jobs.estimate.speed import Speed, speed
from jobctl.jobs.estimate.weights import GIB

HOUR = 3600.0


class Duration(msgspec.Struct, frozen=True, kw_only=True):
    """A whole training to a number of tokens. A value is None if the rate or the price is unknown."""

    tokens: int
    steps: int
    seconds: float | None
    """Seconds in steps alone."""
    seconds_with_goodput: float | None
    """Seconds with the queue, starts and saves, as in earlier runs of this kind."""
    gpu_hours: float | None
    kwh: float | None
    cost: float | None


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Disk space and time of the saves."""

    gib: float
    disk_gib: float
    """GiB of all checkpoints that are kept, and of one that is being written."""
    save_seconds: float | None


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """A training before its submission. Memory is that of one rank, in GiB. Rates are those of all ranks."""

    model: str
    hardware: str
    ranks: int
    sharding: str
    kernels: str
    float8: bool
    batch_size: int
    gradient_accumulation_steps: int
    block_size: int
    tokens_per_step: int
    parameters: int
    flops_per_token: int
    memory_gib: dict[str, float]
    memory_moment: str
    needed_gib: float
    """The total, and the memory of CUDA and NCCL outside it."""
    available_gib: float
    host_memory_gib: float
    fits: bool
    largest_batch_size: int
    step_seconds: float | None
    step_seconds_range: tuple[float, float] | None
    step_seconds_by_part: dict[str, float]
    tokens_per_second: float | None
    mfu: float | None
    basis: Basis
    rates_source: str
    goodput: float | None
    goodput_runs: int
    stage: Duration
    optimal: Duration
    currency: str
    checkpoint: Checkpoint


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """The inputs of an estimate."""

    model_name: str
    hardware_name: str
    situation: Situation
    machine: HardwareEntry
    site: Site
    known: Known | None
    optimal_tokens: float
    """The value 0 stands for the rule of 20 tokens per parameter (Hoffmann et al. 2022)."""
    available_gib: float
    """Memory of a GPU, or of the whole machine if it has none."""
    goodput: float | None = None
    goodput_runs: int = 0


TOKENS_A_PARAMETER = 20


def available(situation: Situation, machine: HardwareEntry, host_gib_free: float | None = None) -> float:
    """Return the GiB of a GPU. Without a GPU: the free GiB of this host, or else the hardware's own."""
    if situation.gpu:
        return usable_gib(machine)
    return machine.facts.node_memory_gib if host_gib_free is None else host_gib_free


def estimate(question: Question) -> Estimate:
    """Return the estimate of a training."""
    situation = question.situation
    train = situation.train
    tokens_per_step = situation.tokens * train.gradient_accumulation_steps * situation.ranks
    timed = speed(situation, question.known) if question.known else None
    rate = tokens_per_step / timed.seconds if timed else None
    parameters = arithmetic.parameters(situation.model)
    optimal = question.optimal_tokens or float(TOKENS_A_PARAMETER * parameters)

    return Estimate(
        model=question.model_name,
        hardware=question.hardware_name,
        ranks=situation.ranks,
        sharding=situation.sharding,
        kernels=situation.path,
        float8=situation.float8,
        batch_size=train.batch_size,
        gradient_accumulation_steps=train.gradient_accumulation_steps,
        block_size=train.block_size,
        tokens_per_step=tokens_per_step,
        parameters=parameters,
        flops_per_token=arithmetic.flops_per_token(situation.model, train.block_size),
        **_memory_fields(question),
        **_time_fields(question, timed),
        tokens_per_second=rate,
        mfu=_mfu(question, rate),
        goodput=question.goodput,
        goodput_runs=question.goodput_runs,
        stage=_duration(question, train.max_iters * tokens_per_step, tokens_per_step, rate),
        optimal=_duration(question, round(optimal), tokens_per_step, rate),
        currency=question.site.prices.currency,
        checkpoint=_checkpoint(question),
    )


def _memory_fields(question: Question) -> dict[str, Any]:
    """Return the memory fields of an estimate."""
    situation = question.situation
    peak = memory(situation)
    return {
        "memory_gib": peak.gib(),
        "memory_moment": peak.moment,
        "needed_gib": round(needed_gib(situation), 3),
        "available_gib": round(room_gib(situation, question.available_gib), 3),
        "host_memory_gib": round(host_gib(situation), 3),
        "fits": fits(situation, question.available_gib),
        "largest_batch_size": largest_batch(situation, question.available_gib),
    }


def _time_fields(question: Question, timed: Speed | None) -> dict[str, Any]:
    """Return the fields of an estimate about the time of one step."""
    parts = msgspec.to_builtins(timed) if timed else {}
    # The range is no part of a step.
    parts.pop("range", None)
    return {
        "step_seconds": timed.seconds if timed else None,
        "step_seconds_range": (timed.least, timed.most) if timed else None,
        "step_seconds_by_part": parts,
        "basis": question.known.basis if question.known else "unknown",
        "rates_source": question.known.rates.source if question.known else "",
    }


def _mfu(question: Question, rate: float | None) -> float | None:
    """Return the share of the dense bfloat16 peak, as the trainer counts it."""
    situation = question.situation
    peak = situation.facts.peak_tflops.get("bfloat16")
    if rate is None or peak is None:
        return None

    flops = arithmetic.flops_per_token(situation.model, situation.train.block_size)
    return rate * flops / (peak * 1e12 * situation.ranks)


def _duration(question: Question, tokens: int, tokens_per_step: int, rate: float | None) -> Duration:
    # The last step reads whole batches, even if fewer tokens would be enough.
    steps = -(-tokens // tokens_per_step)
    if rate is None:
        return Duration(
            tokens=tokens,
            steps=steps,
            seconds=None,
            seconds_with_goodput=None,
            gpu_hours=None,
            kwh=None,
            cost=None,
        )

    seconds = tokens / rate
    whole = seconds / question.goodput if question.goodput else None
    # Devices cost money and power even while no step runs.
    hours = (whole or seconds) * question.situation.ranks / HOUR
    kwh = hours * question.machine.watts / 1000 * question.site.prices.pue if question.machine.watts else None

    return Duration(
        tokens=tokens,
        steps=steps,
        seconds=seconds,
        seconds_with_goodput=whole,
        gpu_hours=hours if question.situation.gpu else None,
        kwh=kwh,
        cost=_cost(question.site, hours if question.situation.gpu else 0.0, kwh),
    )


def _cost(site: Site, gpu_hours: float, kwh: float | None) -> float | None:
    """Return the price by the site's own figures; None if the site has none."""
    prices = site.prices
    if not prices.gpu_hour and not prices.kwh:
        return None
    return gpu_hours * prices.gpu_hour + (kwh or 0.0) * prices.kwh


def _checkpoint(question: Question) -> Checkpoint:
    situation = question.situation
    count = checkpoint_bytes(situation)
    # The weights of the best validation are kept apart: a third of a checkpoint.
    kept = situation.train.keep_last_checkpoints + 1 + 1 / 3
    # All nodes write their shares of a save at the same time.
    nodes = max(1, situation.ranks // situation.ranks_per_node)
    rate = question.site.prices.disk_gb_s * nodes

    return Checkpoint(
        gib=round(count / GIB, 3),
        disk_gib=round(kept * count / GIB, 3),
        save_seconds=round(count / 1e9 / rate, 2) if rate else None,
    )

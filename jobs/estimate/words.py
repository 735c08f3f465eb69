"""An estimate as text: the page of ``jobctl estimate``, the line of a submission, and a refusal."""

from __future__ import annotations

from jobctl.jobs.core.amounts import duration, short_count
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.estimate.report import Duration, Estimate

PARTS = {
    "weights": "float32 weights",
    "optimizer": "two moments of AdamW",
    "gradients": "float32 gradients",
    "working_copies": "rounded weights for the products",
    "communication": "buckets of DDP",
    "workspaces": "workspaces of cuBLAS",
    "activations_norms": "residual stream and norms",
    "activations_attention": "attention",
    "activations_feed_forward": "feed-forward layers",
    "head": "final norm, and the head's gradients",
    "logits": "logits",
    "temporary": "temporary memory of one operation",
}


def page(estimate: Estimate) -> str:
    """Return the whole estimate as lines."""
    lines = [
        f"{estimate.model} on {estimate.hardware}: {short_count(estimate.parameters)} parameters, "
        f"{estimate.flops_per_token / 1e9:.2f} GFLOPs a token",
        f"{estimate.ranks} ranks, {estimate.sharding}; {estimate.kernels} kernels"
        + (", float8 in the blocks" if estimate.float8 else ""),
        f"batch {estimate.batch_size} × {estimate.gradient_accumulation_steps} micro-steps × {estimate.ranks} ranks "
        f"of {estimate.block_size} tokens: {estimate.tokens_per_step:,} tokens a step",
        "",
        f"memory of a rank, GiB, largest at {_the(estimate.memory_moment)}:",
        *_memory_lines(estimate),
        "",
        *_time_lines(estimate),
        "",
        *_checkpoint_lines(estimate),
    ]

    return "\n".join(lines)


def _the(moment: str) -> str:
    return moment if moment.startswith("the ") else f"the {moment}"


def _memory_lines(estimate: Estimate) -> list[str]:
    lines = [
        f"  {estimate.memory_gib[part]:8.2f}  {words}"
        for part, words in PARTS.items()
        if estimate.memory_gib[part]
    ]
    verdict = "fits" if estimate.fits else "does NOT fit"
    lines += [
        f"  {estimate.memory_gib['total']:8.2f}  in total; with CUDA and NCCL {estimate.needed_gib:.2f} "
        f"of {estimate.available_gib:.2f}: {verdict}",
        f"  the largest batch_size that fits is {estimate.largest_batch_size}",
        f"  a rank also needs {estimate.host_memory_gib:.2f} GiB of host memory",
    ]

    return lines


def _time_lines(estimate: Estimate) -> list[str]:
    if estimate.step_seconds is None or estimate.step_seconds_range is None:
        return [
            f"time: unknown; nobody has measured {estimate.hardware}, and its entry has no peak",
            "  to measure this machine: jobctl probe",
        ]

    least, most = estimate.step_seconds_range
    share = f", {estimate.mfu:.1%} of the peak" if estimate.mfu else ""
    lines = [
        f"a step takes {duration(estimate.step_seconds)} ({duration(least)} to {duration(most)}), "
        f"{estimate.tokens_per_second:,.0f} tokens/s{share}",
        f"  {BASIS[estimate.basis]}: {estimate.rates_source}",
    ]

    lines.append(
        "  "
        + ", ".join(
            f"{name} {duration(part)}" for name, part in estimate.step_seconds_by_part.items() if part
        )
    )
    if estimate.goodput:
        lines.append(
            f"  goodput {estimate.goodput:.1%}, the mean of {estimate.goodput_runs} runs of this kind in this root"
        )

    lines += [
        _stage_line("the stage", estimate.stage, estimate.currency),
        _stage_line("compute-optimal", estimate.optimal, estimate.currency),
    ]
    return lines


BASIS = {
    "measured": "measured",
    "probed": "by a probe",
    "extrapolated": "EXTRAPOLATED, not measured on this hardware",
    "unknown": "unknown",
}


def _stage_line(name: str, stage: Duration, currency: str) -> str:
    if stage.seconds is None:
        return f"  {name}: {short_count(stage.tokens)} tokens"

    words = [
        f"  {name}: {short_count(stage.tokens)} tokens, {stage.steps:,} steps, {duration(stage.seconds)}"
    ]
    if stage.seconds_with_goodput:
        words.append(f"{duration(stage.seconds_with_goodput)} with that goodput")
    if stage.gpu_hours is not None:
        words.append(f"{stage.gpu_hours:,.1f} GPU-hours")
    if stage.kwh is not None:
        words.append(f"{stage.kwh:,.1f} kWh")
    if stage.cost is not None:
        words.append(f"{stage.cost:,.2f} {currency}")

    return ", ".join(words)


def _checkpoint_lines(estimate: Estimate) -> list[str]:
    checkpoint = estimate.checkpoint
    line = f"a checkpoint takes {checkpoint.gib:.2f} GiB; kept checkpoints take {checkpoint.disk_gib:.2f} GiB"
    if checkpoint.save_seconds is not None:
        return [f"{line}; a save is durable after {duration(checkpoint.save_seconds)}"]
    return [f"{line}; set prices.disk_gb_s of the site to see how long a save takes"]


def short(estimate: Estimate) -> str:
    """Return the one line that a submission prints."""
    words = [f"{estimate.needed_gib:.1f} of {estimate.available_gib:.1f} GiB a rank"]
    if estimate.step_seconds is not None and estimate.stage.seconds is not None:
        mark = " (extrapolated)" if estimate.basis == "extrapolated" else ""
        words.append(f"a step of {duration(estimate.step_seconds)}{mark}")
        words.append(f"{estimate.tokens_per_second:,.0f} tokens/s")
        words.append(f"{duration(estimate.stage.seconds)} for {short_count(estimate.stage.tokens)} tokens")
        if estimate.stage.gpu_hours is not None:
            words.append(f"{estimate.stage.gpu_hours:,.1f} GPU-hours")
        if estimate.stage.cost is not None:
            words.append(f"{estimate.stage.cost:,.2f} {estimate.currency}")

    return "estimate: " + ", ".join(words)


def refuse(estimate: Estimate) -> UserError:
    """Return the error for a training that does not fit into memory."""
    largest = estimate.largest_batch_size
    hint = (
        f"--set batch_size={largest} is the largest that fits, --set batch_size=auto keeps the global batch"
        if largest
        else "not even one sequence fits: use more GPUs with --set use_fsdp=true, other hardware or a "
        "smaller model"
    )

    return UserError(
        f"{estimate.model} with batch_size {estimate.batch_size} needs {estimate.needed_gib:.1f} GiB a rank, "
        f"and a rank of {estimate.hardware} has {estimate.available_gib:.1f}",
        hint=f"{hint}; --force submits it anyway; jobctl estimate shows what uses the memory",
    )

"""The choices of a run and their reasons: facts for the run log, and one block for people."""

from __future__ import annotations

import platform
from typing import Any

import torch

from jobctl.jobs.catalog.arithmetic import flops_per_token, flops_per_token_causal, parameters
from jobctl.jobs.catalog.loader import peak_flops
from jobctl.jobs.catalog.schema import TrainConfig
from jobctl.jobs.catalog.training_plan import Plan, SourceShare
from jobctl.jobs.core.amounts import short_bytes
from jobctl.trainer.data.samples import BatchLayout, Samples
from jobctl.trainer.distributed import EXPLAINED, Sharding, World
from jobctl.trainer.fused.choice import KernelChoice
from jobctl.trainer.models.attention import Attention
from jobctl.trainer.options import Recipe


class Peak:
    """The dense peak that MFU is a share of, if the catalogue knows this device."""

    def __init__(self, device: torch.device, dtype: str) -> None:
        self.device_name = device_name(device)
        known = peak_flops(self.device_name, dtype) if device.type == "cuda" else None
        self.flops = known[0] if known else None
        self.hardware = known[1] if known else None

    def mfu(self, tokens_per_second: float, flops: int, world_size: int) -> float | None:
        """Share of the peak of all GPUs together."""
        return tokens_per_second * flops / (self.flops * world_size) if self.flops else None

    def __str__(self) -> str:
        return f"{self.flops / 1e12:,.1f} TFLOP/s dense ({self.hardware})" if self.flops else "unknown"


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    # On many Linux systems the first one is empty.
    return platform.processor() or platform.machine()


def facts(
    recipe: Recipe,
    world: World,
    sharding: Sharding,
    layout: BatchLayout,
    *,
    attention: Attention,
    peak: Peak,
    optimizer_bytes: int,
    weight_bytes: int,
    fingerprint: str,
    resumed: int | None,
    kernels: KernelChoice,
    plan: Plan,
    without_graphs: str = "not asked for",
    saves: str = "",
    origin: str = "",
) -> dict[str, Any]:
    """``startup_info`` of the run log."""
    train = recipe.train
    return {
        "model": recipe.name,
        "parameters": parameters(recipe.model),
        "device": peak.device_name,
        "world_size": world.size,
        "torch": str(torch.__version__),
        "attention_backend": attention.name,
        "attention_passed_over": attention.passed_over,
        "repeatable": attention.unrepeatable == "",
        "unrepeatable": attention.unrepeatable,
        "dtype": train.dtype,
        "kernels": kernels.words,
        "fused": kernels.decoder is not None,
        "float8": kernels.float8,
        "compile": train.compile,
        "cuda_graphs": without_graphs == "",
        "without_cuda_graphs": without_graphs,
        "sharding": sharding,
        "weight_bytes_per_rank": weight_bytes,
        "optimizer_bytes_per_rank": optimizer_bytes,
        "global_batch_size": layout.global_batch_size,
        "tokens_per_iter": layout.global_batch_size * train.block_size,
        "flops_per_token": flops_per_token(recipe.model, train.block_size),
        "flops_per_token_causal": flops_per_token_causal(recipe.model, train.block_size),
        "peak_flops": peak.flops,
        "dataset": [str(source.path) for source in recipe.sources],
        "fingerprint": fingerprint,
        "tokens_planned": plan.tokens,
        "epochs_planned": dict(plan.epochs),
        "plan": str(plan),
        "resumed_from_step": resumed,
        "weights_from": origin,
        "checkpoint_saves": saves,
    }


def source_shares(samples: Samples) -> list[SourceShare]:
    """Return the data sets of a run, each with its part of the samples."""
    turns = samples.turns.counts
    return [
        SourceShare(name=blocks.tokens.folder.name, blocks=len(blocks), share=count / sum(turns))
        for blocks, count in zip(samples.sources, turns, strict=True)
    ]


def block(info: dict[str, Any], train: TrainConfig, peak: Peak, validation: list[str]) -> str:
    """The facts for people."""
    resumed = info["resumed_from_step"]
    rows = {
        "model": f"{info['model']}, {info['parameters']:,} parameters, "
        f"{info['flops_per_token']:,} FLOPs a token ({info['flops_per_token_causal']:,} causal)",
        "device": f"{info['world_size']} × {info['device']}, torch {info['torch']}",
        "peak": str(peak) if peak.flops else f"unknown for {peak.device_name}, so MFU is n/a",
        "attention": f"{info['attention_backend']} (asked for: {train.attention_backend}"
        + (f"; passed over: {info['attention_passed_over']})" if info["attention_passed_over"] else ")"),
        "arithmetic": arithmetic(info, train),
        "repeatable": repeats(info, train),
        "kernels": f"{info['kernels']} (asked for: {train.kernels})",
        "compile": compiled(info, train),
        "sharding": f"{info['sharding']}: {EXPLAINED[info['sharding']]}",
        "memory a rank": f"weights {short_bytes(info['weight_bytes_per_rank'])}, "
        f"optimiser {short_bytes(info['optimizer_bytes_per_rank'])}",
        "batch": f"{train.batch_size} a rank × {train.gradient_accumulation_steps} micro-steps × "
        f"{info['world_size']} ranks = {info['global_batch_size']} sequences of {train.block_size} "
        f"= {info['tokens_per_iter']:,} tokens a step",
        "data": f"{', '.join(info['dataset'])} (fingerprint {info['fingerprint'][:12]})",
        "plan": info["plan"],
        "validation": ", ".join(validation) or "none: the data has no validation split",
        "steps": f"{resumed or 0} to {train.max_iters}, {beginning(info)}",
    }

    if info["checkpoint_saves"]:
        rows["checkpoints"] = info["checkpoint_saves"]

    width = max(map(len, rows))

    return "\n".join(f"{name:>{width}}  {text}" for name, text in rows.items())


def beginning(info: dict[str, Any]) -> str:
    """Describe the first weights of this attempt."""
    if info["resumed_from_step"]:
        return "resumed from a checkpoint"

    origin = info.get("weights_from", "")
    return f"from the weights of {origin}" if origin else "from scratch"


def arithmetic(info: dict[str, Any], train: TrainConfig) -> str:
    if train.dtype == "float32":
        return "float32 throughout"

    products = f"{train.dtype} matrix products"
    if info["float8"]:
        products = (
            f"float8 matrix products in the blocks, {train.dtype} elsewhere (MFU: of the {train.dtype} peak)"
        )

    return f"{products}, float32 weights, gradients reduced in float32"


def repeats(info: dict[str, Any], train: TrainConfig) -> str:
    verdict = "yes, bit for bit" if info["repeatable"] else f"no: {info['unrepeatable']}"
    return f"{verdict} (asked for: {train.deterministic})"


def compiled(info: dict[str, Any], train: TrainConfig) -> str:
    text = "each block" if train.compile else "off"
    if info["fused"]:
        text = "nothing left to compile"

    if train.use_cuda_graphs:
        why = info["without_cuda_graphs"]
        text += (
            f"; CUDA graphs asked for, but steps run without: {why}"
            if why
            else "; micro-steps are CUDA graphs"
        )

    return text

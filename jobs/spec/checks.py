"""Refuse combinations of settings that cannot work. The checks run before anything is submitted."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from jobctl.jobs import kinds
from jobctl.jobs.catalog import consistency
from jobctl.jobs.core import layout
from jobctl.jobs.core.errors import UserError, nearest
from jobctl.jobs.spec.reserved import is_reserved
from jobctl.jobs.targets.registry import BUILT_IN, TargetEntry, target_entry

if TYPE_CHECKING:
    from jobctl.jobs.spec.job_spec import JobSpec, TrainSpec

LACKS = {
    "cpu": "it has no CUDA",
    "cu124": "CUDA 12.4 has no code for compute capability {} (it needs CUDA 12.8 and torch 2.7)",
    "cu132": "CUDA 13.2 has no code for compute capability {}",
}
"""For each variant of the image: the reason why it cannot run on hardware whose entry does not list it."""
ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def check_names(run: str | None, after: Sequence[str], kind: str) -> None:
    """Raise UserError for a name that no run can have, and for a run that would wait for itself."""
    for name in after:
        parent, parent_kind = kinds.split_name(name)
        _check_run_name(parent)
        if parent_kind or name != parent:
            _check_kind_on_a_checkpoint(name, parent_kind)

    if run is None:
        return

    _check_run_name(run)
    own_name = kinds.job_name(run, kind)
    if own_name in after:
        raise UserError(
            f"--after {own_name}: the run would wait for itself", hint="name the run that must finish first"
        )


def _check_run_name(name: str) -> None:
    if not layout.RUN_NAME.fullmatch(name):
        raise UserError(
            f"run name {name!r}: use only letters, digits, '.', '_' and '-', at most 100 characters; "
            "begin with a letter or digit"
        )


def _check_kind_on_a_checkpoint(name: str, kind: str) -> None:
    if kind not in kinds.ON_A_CHECKPOINT:
        raise UserError(
            f"--after {name}: '{kind}' is not a job on a checkpoint; {nearest(kind, kinds.ON_A_CHECKPOINT)}"
        )


def check_job(spec: JobSpec, gpus_on_a_node: int) -> None:
    """Raise UserError for the first setting of any job that cannot work."""
    target = target_entry(spec.target)
    if spec.after and not target.accepts_after:
        raise UserError(
            f"--after {spec.after[0]}: target {spec.target} has no queue, so a job cannot wait for another "
            "job",
            hint=f"jobctl wait {spec.after[0]} && jobctl submit …",
        )

    _check_nodes(spec.resources.nodes, target)

    _check_hardware(spec, gpus_on_a_node)
    _check_environment(spec)


def _check_nodes(nodes: int, target: TargetEntry) -> None:
    if nodes <= target.most_nodes:
        return

    if target.most_nodes == 1:
        raise UserError(
            f"nodes {nodes}: the {target.name} target is one machine",
            hint="--target "
            + ", or --target ".join(entry.name for entry in BUILT_IN if entry.most_nodes > 1),
        )

    raise UserError(
        f"nodes {nodes}: a job on target {target.name} can have at most {target.most_nodes:,} nodes",
        hint=f"use --nodes {target.most_nodes} or fewer",
    )


def check_training(spec: TrainSpec) -> None:
    """Raise UserError for the first setting of a training job that cannot work."""
    consistency.check_model(spec.model)
    consistency.check_training(spec.model, spec.train)
    _check_arithmetic(spec)


def check_vocabulary(spec: TrainSpec, ids: int) -> None:
    """Raise UserError if ``ids``, the tokenizer's number of ids, is more than the rows of the model."""
    if ids > spec.model.vocab_size:
        raise UserError(
            f"tokenizer {spec.inputs.tokenizer} has ids up to {ids - 1}, "
            f"but {spec.model_name} has {spec.model.vocab_size} rows in its embedding",
            # Round up to a multiple of 64, because matrix products are fast with it.
            hint=f"use the model's own tokenizer, or --set vocab_size={-(-ids // 64) * 64}",
        )


def _check_hardware(spec: JobSpec, gpus_on_a_node: int) -> None:
    facts = spec.facts
    gpus = spec.resources.gpus_per_node
    if gpus > gpus_on_a_node:
        raise UserError(
            f"gpus_per_node {gpus}: a node of {spec.hardware} has only {gpus_on_a_node} GPUs",
            hint="use more nodes (--nodes), or other hardware (--hardware)",
        )

    # A site would give such a job whole GPU nodes, and nothing would use their GPUs.
    if gpus_on_a_node and not gpus:
        raise UserError(
            f"gpus_per_node 0 on {spec.hardware}", hint="for a job without GPUs, use --hardware cpu"
        )

    variant = spec.inputs.image_variant
    if not facts.image_variants:
        _check_own_image(spec)
    elif variant not in facts.image_variants:
        # Without a GPU a message about its compute capability would be useless.
        reason = LACKS[variant].format(facts.compute_capability) if gpus else "it has no GPU"
        raise UserError(
            f"image_variant {variant} cannot run on {spec.hardware}: {reason}",
            hint=f"--set image_variant={facts.image_variants[-1]}",
        )


def _check_own_image(spec: JobSpec) -> None:
    """Raise UserError if the job would start an image of jobctl on hardware without such an image."""
    when = target_entry(spec.target).image
    in_an_image = when == "always" or (when == "by the site" and spec.site.container.runtime != "none")
    if in_an_image and not spec.inputs.image:
        raise UserError(
            f"{spec.hardware} has ARM processors (arm64), but jobctl's images are for x86_64",
            hint="name your own image with --image; on Slurm you can also set container.runtime=none",
        )


def _check_arithmetic(spec: TrainSpec) -> None:
    facts = spec.facts
    gpus = spec.resources.gpus_per_node
    if spec.train.use_fp8 and "fp8" not in facts.peak_tflops:
        raise UserError(f"use_fp8: {spec.hardware} has no float8 arithmetic", hint="use tier 1, 2 or 3")

    backend = spec.train.attention_backend
    if backend == "flash_attn_3" and facts.compute_capability != "9.0":
        raise UserError(
            f"attention_backend flash_attn_3 is for Hopper only, not {spec.hardware}",
            hint="use auto or flash_attn_2",
        )

    if spec.train.activation_checkpointing == "offload" and not gpus:
        raise UserError(
            "activation_checkpointing=offload needs a GPU",
            hint="activation_checkpointing=selective needs none",
        )

    if backend not in ("auto", "sdpa", "manual") and not gpus:
        raise UserError(f"attention_backend {backend} needs a GPU", hint="use auto, sdpa or manual")


def _check_environment(spec: JobSpec) -> None:
    for name in spec.site.env:
        if not ENV_NAME.fullmatch(name):
            raise UserError(f"env: {name!r} is not the name of an environment variable")

    for name in (*spec.site.env, *spec.site.pass_env):
        if is_reserved(name):
            raise UserError(
                f"env: the job's script or bash sets {name} and needs its own value",
                hint="remove it, or rename your variable",
            )

    for name in spec.site.pass_env:
        if not ENV_NAME.fullmatch(name):
            raise UserError(f"pass_env: {name!r} is not the name of an environment variable")

    # The system call would cut the word at this character, or refuse to start the process.
    for text in (spec.site.root, spec.site.project_dir, *spec.site.env.values(), *spec.site.container.mounts):
        if "\0" in text:
            raise UserError(f"{text!r}: a NUL character cannot be passed to a process")

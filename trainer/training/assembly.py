"""Puts a run together: data, model, layout, optimiser, guards, checkpoints. The loop only has to turn."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from jobctl.jobs.catalog.schema import ModelConfig, TrainConfig
from jobctl.jobs.core.errors import UserError
from jobctl.trainer import distributed as parallel
from jobctl.trainer.checkpoint import checkpointer as checkpoint
from jobctl.trainer.checkpoint import files as checkpoint_files
from jobctl.trainer.data.samples import BatchLayout, Samples, open_samples
from jobctl.trainer.distributed import Sharding, World
from jobctl.trainer.fused import KernelChoice, fuse
from jobctl.trainer.models import build_model
from jobctl.trainer.models.attention import Attention, choose_attention
from jobctl.trainer.models.layers.decoder import Decoder
from jobctl.trainer.models.loss import CPU_CROSS_ENTROPY
from jobctl.trainer.optim.registry import build_optimizer
from jobctl.trainer.options import Options, Recipe, Source, resolve
from jobctl.trainer.reporting.startup import Peak
from jobctl.trainer.training.evaluate import ValidationSet, open_validation
from jobctl.trainer.training.step import Stepper

T = TypeVar("T")


@dataclasses.dataclass
class Run:
    """Everything that training needs; ``step`` and ``samples`` say how far it is."""

    directory: Path
    recipe: Recipe
    world: World
    sharding: Sharding
    layout: BatchLayout
    data: Samples
    validation: list[ValidationSet]
    attention: Attention
    stepper: Stepper
    checkpoints: checkpoint.Checkpointer
    peak: Peak
    eos_id: int
    tokenizer: str
    kernels: KernelChoice
    resumed: checkpoint.State | None = None

    def restore(self, step: int, state: checkpoint.State) -> None:
        """Continue where the checkpoint of ``step`` was made."""
        self.checkpoints.load(step)
        if self.kernels.decoder:
            self.kernels.decoder.refresh()
        checkpoint.restore_random_state(state.random)
        self.resumed = state


def together(world: World, action: Callable[[], T]) -> T:
    """Do ``action`` on every rank; a UserError on one is raised on all, so that none waits for the others."""
    result, found = None, ("", "", 0)
    try:
        result = action()
    except UserError as error:
        found = error.message, error.hint, error.code
    for rank, (problem, hint, code) in enumerate(world.gathered(found)):
        if problem:
            where = f" (on rank {rank})" if rank else ""
            raise UserError(problem + where, hint=hint, code=code)
    return result  # type: ignore[return-value]


def recorded_recipe(run: Path) -> Recipe | None:
    """What the run's checkpoint was made with, for a command line that does not say."""
    state = checkpoint.recorded_state(run)
    if state is None:
        return None
    sources = tuple(Source(Path(source.path), source.weight) for source in state.sources)
    return Recipe(state.name, state.model, state.train, sources)


def choose_start(run: Path, train: TrainConfig) -> bool:
    """Whether to resume. Raises UserError where ``--init_from`` and the run directory disagree."""
    there, damaged = checkpoint_files.steps(run), checkpoint_files.damaged(run)
    if damaged and not there and train.init_from != "scratch":
        raise UserError(
            f"every checkpoint of {run} is damaged: {', '.join(path.name for path in damaged)}",
            hint="rename one to step-N to have it checked again, or begin anew with --init_from=scratch",
        )
    if train.init_from == "resume" and not there:
        raise UserError(
            f"--init_from=resume, but {run} has no checkpoint", hint="--init_from=auto starts where it can"
        )
    if train.init_from == "scratch" and there:
        raise UserError(
            f"--init_from=scratch, but {run} has checkpoints up to step {there[-1]}",
            hint="choose another --run_dir, or --init_from=auto to go on from them",
        )
    if train.eval_only and not there:
        raise UserError(f"--eval_only, but {run} has no checkpoint to evaluate")
    return bool(there)


def build_whole_model(
    config: ModelConfig, train: TrainConfig, device: torch.device
) -> tuple[Decoder, Attention]:
    """The model on ``device``, the same on every rank and for every layout: its weights depend on the seed alone."""
    dtype = parallel.TORCH_DTYPES[train.dtype]
    attention = choose_attention(
        train.attention_backend, device, dtype, config.head_dim, train.document_masking
    )
    torch.manual_seed(train.seed)
    with torch.device(device):
        model = build_model(config, attention)
    if device.type == "cpu":
        model.cross_entropy = CPU_CROSS_ENTROPY
    if train.compile:
        for block in model.blocks:
            block.compile()
    return model, attention


def assemble(options: Options, world: World) -> Run:
    """Build the run that ``options`` ask for, or resume it. Raises UserError, the same on every rank."""
    recipe = together(world, lambda: resolve(options, recorded_recipe(options.run_dir)))
    resume = together(world, lambda: choose_start(options.run_dir, recipe.train))
    data, validation = together(world, lambda: open_data(recipe))
    model, attention = together(world, lambda: build_whole_model(recipe.model, recipe.train, world.device))
    train = recipe.train
    sharding = parallel.choose_sharding(train, world.size)
    kernels = together(world, lambda: fuse(model, attention, train, sharding, world))
    fused = kernels.decoder
    laid_out: nn.Module = model
    if fused is None:
        laid_out = parallel.distribute(model, sharding, world, parallel.TORCH_DTYPES[train.dtype])
    optimizer = build_optimizer(laid_out, train, sharding, fused)
    meta = data.sources[0].tokens.meta
    stepper = Stepper(laid_out, optimizer, train, world, sharding, meta.eos_id, fused)
    run = Run(
        directory=options.run_dir,
        recipe=recipe,
        world=world,
        sharding=sharding,
        layout=BatchLayout(train.batch_size, train.gradient_accumulation_steps, world.size, world.rank),
        data=data,
        validation=validation,
        attention=attention,
        stepper=stepper,
        checkpoints=checkpointer(options.run_dir, world, stepper, train),
        peak=Peak(world.device, "bfloat16" if train.dtype == "float16" else train.dtype),
        eos_id=meta.eos_id,
        tokenizer=meta.tokenizer.name,
        kernels=kernels,
    )
    if not train.eval_only:
        run.checkpoints.claim()
    if resume:
        restore(run)
    return run


def open_data(recipe: Recipe) -> tuple[Samples, list[ValidationSet]]:
    return (
        open_samples(recipe.sources, recipe.model, recipe.train),
        open_validation(recipe.sources, recipe.model, recipe.train),
    )


def checkpointer(
    directory: Path, world: World, stepper: Stepper, train: TrainConfig
) -> checkpoint.Checkpointer:
    """Saves and loads the stepper's weights, optimiser state and guards by their names."""
    parameters = parallel.named_parameters(stepper.model)

    def tensors() -> dict[str, torch.Tensor]:
        weights = {f"model.{name}": parameter.detach() for name, parameter in parameters.items()}
        states = {f"optimizer.{name}": state for name, state in stepper.optimizer.state().items()}
        return weights | states | stepper.guard_tensors()

    return checkpoint.Checkpointer(
        directory, world, tensors, train.keep_last_checkpoints, train.keep_every_checkpoint
    )


def restore(run: Run) -> None:
    """Load the newest whole checkpoint, if it is of this model and this data. Raises UserError where it is not."""
    found = run.checkpoints.newest_whole(set_aside=not run.recipe.train.eval_only)
    if found is None:
        raise UserError(
            f"every checkpoint of {run.directory} is damaged",
            hint="begin anew in another --run_dir, or here with --init_from=scratch",
        )
    step, state = found
    differences = checkpoint.differences(state, run.recipe.model, run.recipe.train, run.data.fingerprint)
    if differences:
        raise UserError(
            f"the checkpoint of step {step} in {run.directory} cannot be resumed:\n  "
            + "\n  ".join(differences),
            hint="give the options that the run began with, or choose another --run_dir",
        )
    run.restore(step, state)

"""Assemble a run: data, model, layout, optimiser, guards, checkpoints. The loop then only runs."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from jobctl.jobs.catalog.resuming import Settings
from jobctl.jobs.catalog.schema import ModelConfig, TrainConfig
from jobctl.jobs.core.errors import UserError
from jobctl.trainer import compilers
from jobctl.trainer import distributed as parallel
from jobctl.trainer.checkpoint import publication
from jobctl.trainer.checkpoint.checkpointer import Checkpointer
from jobctl.trainer.checkpoint.origin import Origin
from jobctl.trainer.checkpoint.state import State, restore_random_state
from jobctl.trainer.checkpoint.weights import recorded_state
from jobctl.trainer.data.mixture import ORDER
from jobctl.trainer.data.samples import BatchLayout, Samples, open_samples
from jobctl.trainer.distributed import Sharding, World
from jobctl.trainer.fused.choice import KernelChoice, fuse
from jobctl.trainer.models.attention import Attention
from jobctl.trainer.models.building import build_model
from jobctl.trainer.models.layers.decoder import Decoder
from jobctl.trainer.models.loss import CPU_CROSS_ENTROPY
from jobctl.trainer.models.recompute import checkpoint_blocks
from jobctl.trainer.optim.registry import build_optimizer
from jobctl.trainer.options import Options, Recipe, resolve
from jobctl.trainer.options import Source as DataSource
from jobctl.trainer.reporting.ledger import Ledger
from jobctl.trainer.reporting.startup import Peak
from jobctl.trainer.training.evaluate import ValidationSet, open_validation
from jobctl.trainer.training.initial import (
    Source,
    check_fits,
    fill_model,
    is_source,
    open_source,
    with_digests,
)
from jobctl.trainer.training.repeatable import choose_repeatable_attention
from jobctl.trainer.training.replay import check_can_repeat
from jobctl.trainer.training.resumption import check_changes, check_origin
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
    checkpoints: Checkpointer
    peak: Peak
    eos_id: int
    tokenizer: str
    kernels: KernelChoice
    resumed: State | None = None
    origin: Origin | None = None
    """The origin of its first weights, if they were not random."""
    is_trial: bool = False
    """Whether it only measures and writes no checkpoint."""


def together(world: World, action: Callable[[], T]) -> T:
    """Do ``action`` on every rank; a UserError on one is raised on all, so that none waits for the others."""
    result = None
    refusal = ("", "", 0)
    try:
        result = action()
    except UserError as error:
        refusal = error.message, error.hint, error.code

    # Every rank comes here, also the one that failed: the exchange needs all of them.
    for rank, (problem, hint, code) in enumerate(world.gathered(refusal)):
        if problem:
            where = f" (on rank {rank})" if rank else ""
            raise UserError(problem + where, hint=hint, code=code)

    return result  # type: ignore[return-value]


def recipe_of(state: State | None) -> Recipe | None:
    """Return the settings of the run's checkpoint, for a command line that does not name them."""
    if state is None:
        return None

    sources = tuple(DataSource(Path(source.path), source.weight) for source in state.sources)
    return Recipe(state.name, state.model, state.train, sources)


def choose_start(run: Path, train: TrainConfig) -> bool:
    """Return whether to resume. Raises UserError if ``--init_from`` and the run directory disagree."""
    steps = publication.steps(run)
    damaged = publication.damaged(run)
    if damaged and not steps and train.init_from != "scratch":
        raise UserError(
            f"every checkpoint of {run} is damaged: {', '.join(path.name for path in damaged)}",
            hint="rename one to step-N to check it again, or start from nothing with --init_from=scratch",
        )

    if train.init_from == "resume" and not steps:
        raise UserError(
            f"--init_from=resume, but {run} has no checkpoint", hint="--init_from=auto begins a new run then"
        )

    if train.init_from == "scratch" and steps:
        raise UserError(
            f"--init_from=scratch, but {run} has checkpoints up to step {steps[-1]}",
            hint="choose another --run_dir, or resume from them with --init_from=auto",
        )

    if train.eval_only and not steps:
        raise UserError(f"--eval_only, but {run} has no checkpoint to evaluate")

    return bool(steps)


def build_whole_model(
    config: ModelConfig, train: TrainConfig, device: torch.device
) -> tuple[Decoder, Attention]:
    """Build the model on ``device``, the same on every rank and for every layout.

    Its weights depend on the seed alone. Raises UserError where it is to be compiled and this machine
    has no compiler for that.
    """
    # Before the weights are made: that takes minutes for a large model.
    if train.compile:
        check_compiler(device.type)

    dtype = parallel.TORCH_DTYPES[train.dtype]
    attention = choose_repeatable_attention(train, device, dtype, config.head_dim)
    # Directly before the weights, so that nothing in between can change them.
    torch.manual_seed(train.seed)

    # Directly on the device: host memory would have to hold a model for each rank of the node.
    with torch.device(device):
        model = build_model(config, attention)

    if device.type == "cpu":
        model.cross_entropy = CPU_CROSS_ENTROPY

    # Before compilation, which then sees a block together with its recomputation.
    checkpoint_blocks(model.blocks, train.activation_checkpointing)
    if train.compile:
        for block in model.blocks:
            block.compile()

    return model, attention


def check_compiler(device_type: str) -> None:
    """Raise UserError if ``compile`` needs a compiler that is missing."""
    lack = compilers.cpu_compile_lacks() if device_type == "cpu" else compilers.kernels_lack()
    if lack:
        raise UserError(
            f"--compile=True on {device_type}: {lack}",
            hint="--compile=False, or install the compiler (Debian: gcc g++ python3-dev)",
        )


def distributed(model: nn.Module, train: TrainConfig, sharding: Sharding, world: World) -> nn.Module:
    """Return the plain model as the ranks hold it."""
    return parallel.distribute(model, sharding, world, parallel.TORCH_DTYPES[train.dtype])


@dataclasses.dataclass(frozen=True)
class Start:
    """The beginning of this attempt."""

    recipe: Recipe
    resume: bool
    """Whether it resumes from a checkpoint of its run."""
    source: Source | None
    """Weights of elsewhere that a new run begins with."""
    order: int
    """The order of samples: a resumed run keeps the one that it began with."""


def decide_start(options: Options, world: World) -> Start:
    """Read the records of the run and of its source of weights. Raises UserError, the same on every rank."""
    # The command line wins over the run's checkpoint, and the checkpoint over the source of the weights.
    # Each call meets the other ranks, so every rank makes all of them, in this order.
    recorded = together(world, lambda: recorded_state(options.run_dir))
    source = together(world, lambda: source_of(options, recorded))
    base = recipe_of(recorded) or (source.recipe if source else None)
    recipe = together(world, lambda: resolve(options, base))
    resume = together(world, lambda: choose_start(options.run_dir, recipe.train))
    order = recorded.sample_order if resume and recorded else ORDER

    return Start(recipe, resume, source, order)


def source_of(options: Options, recorded: State | None) -> Source | None:
    """Open the weights that a new run is to begin with; a run that has a checkpoint has its own."""
    init_from = str(options.flags.get("init_from", ""))
    wanted = is_source(init_from) and recorded is None and not options.only_evaluates
    return open_source(init_from, options.run_dir) if wanted else None


def take_weights(start: Start, model: Decoder, tokenizer: str, world: World) -> Origin | None:
    """Load the first weights of a new run. Return their origin. Raises UserError on every rank."""
    source = start.source
    if source is None or start.resume:
        return None

    # Checked before a byte of the weights is read: they may be many gigabytes.
    together(world, lambda: check_fits(source, start.recipe, tokenizer))
    together(world, lambda: fill_model(model, source))

    # One rank reads the files once more for their checksums.
    origin = together(world, lambda: with_digests(source) if world.is_main else None)
    shared: Origin | None = world.from_main(origin)

    return shared


def assemble(
    options: Options, world: World, beat: Callable[[], None] = lambda: None, ledger: Ledger | None = None
) -> Run:
    """Build the run that ``options`` ask for, or resume it. Raises UserError, the same on every rank.

    ``beat`` is called whenever a piece of a checkpoint was read, and later when one was written.
    """
    start = decide_start(options, world)
    recipe = start.recipe
    data, validation = together(world, lambda: open_data(recipe, start.order))
    model, attention = together(world, lambda: build_whole_model(recipe.model, recipe.train, world.device))
    train = recipe.train
    meta = data.sources[0].tokens.meta

    # Whole weights come before any kernel or layout takes them over.
    origin = take_weights(start, model, meta.tokenizer.name, world)
    sharding = parallel.choose_sharding(train, world.size)
    kernels = together(world, lambda: choose_kernels(model, attention, train, sharding, world))
    fused = kernels.decoder

    # Fusing comes before sharding: the fused decoder shards the weights itself.
    laid_out = model if fused else distributed(model, train, sharding, world)

    # The optimiser makes its state at once, so that the checkpointer knows every tensor.
    optimizer = build_optimizer(laid_out, train, sharding, fused)
    layout = BatchLayout(train.batch_size, train.gradient_accumulation_steps, world.size, world.rank)
    stepper = Stepper(laid_out, optimizer, train, world, sharding, meta.eos_id, fused)
    run = Run(
        directory=options.records,
        recipe=recipe,
        world=world,
        sharding=sharding,
        layout=layout,
        data=data,
        validation=validation,
        attention=attention,
        stepper=stepper,
        checkpoints=checkpointer(options.run_dir, world, stepper, train, beat),
        peak=Peak(world.device, "bfloat16" if train.dtype == "float16" else train.dtype),
        eos_id=meta.eos_id,
        tokenizer=meta.tokenizer.name,
        kernels=kernels,
        origin=origin,
    )

    begin(run, start.resume, options, ledger)
    return run


def choose_kernels(
    model: Decoder, attention: Attention, train: TrainConfig, sharding: Sharding, world: World
) -> KernelChoice:
    """Return the kernels of the training pass. Raises UserError for impossible settings."""
    check_can_repeat(train, sharding, attention.unrepeatable)
    return fuse(model, attention, train, sharding, world)


def begin(run: Run, resume: bool, options: Options, ledger: Ledger | None = None) -> None:
    """Take the run directory for this attempt, and load the checkpoint if there is one.

    This comes last: loading fills the tensors that the layout, the kernels and the optimiser have made.
    """
    run.is_trial = options.trial
    # What a killed attempt was writing goes before anything is read.
    if not run.recipe.train.eval_only:
        run.checkpoints.claim()
    if resume:
        with ledger.spending("loading") if ledger else contextlib.nullcontext():
            restore(run, options.allowed_changes)


def open_data(recipe: Recipe, order: int) -> tuple[Samples, list[ValidationSet]]:
    return (
        open_samples(recipe.sources, recipe.model, recipe.train, order),
        open_validation(recipe.sources, recipe.model, recipe.train),
    )


def checkpointer(
    directory: Path, world: World, stepper: Stepper, train: TrainConfig, beat: Callable[[], None]
) -> Checkpointer:
    """Saves and loads the stepper's weights, optimiser state and guards by their names."""
    parameters = parallel.named_parameters(stepper.model)

    def tensors() -> dict[str, torch.Tensor]:
        # The prefixes keep the kinds of tensors apart. They are a part of the format on disk.
        weights = {f"model.{name}": parameter.detach() for name, parameter in parameters.items()}
        states = {f"optimizer.{name}": state for name, state in stepper.optimizer.state().items()}
        return weights | states | stepper.guard_tensors()

    return Checkpointer(
        directory,
        world,
        tensors,
        keep_last=train.keep_last_checkpoints,
        keep_every=train.keep_every_checkpoint,
        when_busy=train.checkpoint_when_busy,
        beat=beat,
    )


def restore(run: Run, allowed: Collection[str]) -> None:
    """Load the newest whole checkpoint. Raises UserError if its settings differ and that is not allowed."""
    state = run.checkpoints.resume(
        lambda state: check_resumable(state, run, allowed), set_aside=not run.recipe.train.eval_only
    )
    if state is None:
        raise UserError(
            f"every checkpoint of {run.checkpoints.run} is damaged",
            hint="start from nothing in another --run_dir, or here with --init_from=scratch",
        )

    # The rounded copies of the weights are not in a checkpoint. They are made from the weights just loaded.
    if run.kernels.decoder:
        run.kernels.decoder.resume()

    # After all that draws random numbers at a start.
    restore_random_state(state.random)
    run.resumed = state
    run.origin = state.origin


def check_resumable(state: State, run: Run, allowed: Collection[str]) -> None:
    """Report differences from the checkpoint. Raises UserError for one that is not allowed."""
    recipe = run.recipe
    # The origin comes first: with another one, differences of the settings say nothing.
    check_origin(state, recipe.train.init_from, run.checkpoints.run)
    now = Settings(recipe.model, recipe.train, run.layout.global_batch_size, run.data.fingerprint)
    check_changes(state, now, run.checkpoints.run, allowed, recipe.train.eval_only)

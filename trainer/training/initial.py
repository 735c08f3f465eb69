"""The weights that a new run begins with: those of a Hugging Face folder, or of another run's checkpoint.

Only the weights are taken. The schedule, the data, the optimiser's state and the counters are the new run's own.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import xxhash
from torch import Tensor

from jobctl.jobs.catalog.loader import load_family
from jobctl.jobs.catalog.schema import ModelConfig, TrainConfig
from jobctl.jobs.core import layout
from jobctl.jobs.core.errors import UserError, first_line
from jobctl.trainer.checkpoint.contents import Contents
from jobctl.trainer.checkpoint.integrity import CHECKSUMS_FILE, Damaged
from jobctl.trainer.checkpoint.origin import Origin
from jobctl.trainer.checkpoint.weights import BEST, NEWEST, fill_tensors, whole_contents
from jobctl.trainer.interop.hf_folder import HfFolder, open_hf
from jobctl.trainer.models.layers.decoder import Decoder
from jobctl.trainer.options import Recipe

log = logging.getLogger(__name__)

HF = "hf:"
RUN = "run:"
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
HUB_FILES = ("config.json", "model*.safetensors", "model.safetensors.index.json", "tokenizer.json")
MAY_DIFFER = frozenset({"initializer_range"})
"""Fields of a model that its weights do not depend on."""
PIECE_BYTES = 2**24


@dataclass(frozen=True)
class Source:
    """Weights to begin with, opened and checked; nothing large has been read yet."""

    origin: Origin
    name: str
    model: ModelConfig
    train: TrainConfig
    """The other run's recipe; the defaults if the weights have none."""
    tokenizer: str
    """The name of the tokenizer of the weights; empty if they do not name it."""
    fill: Callable[[dict[str, Tensor]], None]
    """Copies the weights into whole parameters by name. Raises UserError if a file is damaged."""
    files: tuple[Path, ...]

    @property
    def recipe(self) -> Recipe:
        """Return the settings that a command line overrides, always without the other run's data."""
        return Recipe(self.name, self.model, self.train, ())


def is_source(init_from: str) -> bool:
    """Return whether ``init_from`` names weights, and is no word about resuming."""
    return init_from.startswith((HF, RUN))


def open_source(init_from: str, run_dir: Path) -> Source:
    """Return the weights that ``init_from`` names. Raises UserError if they cannot be used."""
    # A path may have colons itself, so only the first one counts.
    kind, _, text = init_from.partition(":")
    return from_folder(init_from, text) if f"{kind}:" == HF else from_run(init_from, text, run_dir)


def from_folder(init_from: str, text: str) -> Source:
    """Return the weights of a folder of ``transformers``, or of a name on the hub."""
    folder = Path(text)
    # A folder wins over a name of the hub, so that a local copy is never fetched again.
    if not folder.is_dir():
        folder = downloaded(text)

    opened = open_hf(folder)
    return Source(
        origin=Origin(source=init_from, path=str(folder.resolve()), files={}),
        name=folder.name,
        model=opened.config,
        train=TrainConfig(),
        tokenizer="",
        fill=lambda parameters: fill_from_folder(opened, parameters),
        files=(folder / "config.json", *opened.files),
    )


def fill_from_folder(opened: HfFolder, parameters: dict[str, Tensor]) -> None:
    """Copy a tensor at a time, so that a rank needs no memory for a second model."""
    for name, tensor in opened.weights():
        parameters[name].copy_(tensor)


def downloaded(name: str) -> Path:
    """Return the folder of a model of the hub, which the hub's client keeps in its cache. Raises UserError."""
    hint = "name a folder with config.json and *.safetensors, or a model of the hub as OWNER/NAME"
    # Checked before the client, which would take a wrong path for a name and ask the network.
    if not HUB_NAME.fullmatch(name):
        raise UserError(f"--init_from=hf:{name}: no such folder exists", hint=hint)

    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise UserError(
            f"--init_from=hf:{name}: no such folder exists, and huggingface_hub is not installed", hint=hint
        ) from error

    try:
        # Pickled weights can run code, so they are not even fetched.
        return Path(snapshot_download(name, allow_patterns=list(HUB_FILES)))
    except Exception as error:  # its errors, and those of two HTTP libraries
        raise UserError(
            f"--init_from=hf:{name}: no such folder exists, and the hub's model cannot be fetched: "
            f"{first_line(error)}",
            hint=hint,
        ) from error


def from_run(init_from: str, text: str, run_dir: Path) -> Source:
    """Return the weights of ``RUN``, ``RUN@STEP`` or ``RUN@best``."""
    name, at, which = text.rpartition("@")
    # A path may contain an @ itself, so only a known ending is taken off.
    if not at or not (which == BEST or which.isdecimal()):
        name = text
        which = NEWEST

    run = find_run(name, run_dir)
    contents = next(whole_contents(run, which), None)
    if contents is None:
        raise UserError(
            f"--init_from={init_from}: every checkpoint is damaged", hint="the warnings give the reasons"
        )

    state = contents.state
    return Source(
        origin=Origin(source=init_from, path=str(contents.folder.resolve()), step=state.step, files={}),
        name=state.name,
        model=state.model,
        train=state.train,
        tokenizer=state.tokenizer,
        fill=lambda parameters: fill_from_checkpoint(contents, parameters),
        files=(contents.folder / CHECKSUMS_FILE,),
    )


def find_run(name: str, run_dir: Path) -> Path:
    """Return the directory of another run: a path, or a name beside ``run_dir`` or in ``$JOBCTL_ROOT``."""
    places = [Path(name)]
    # Only a plain name is looked up beside the run. A path says its place itself.
    if layout.RUN_NAME.fullmatch(name):
        places = [run_dir.resolve().parent / name]
        if root := os.environ.get("JOBCTL_ROOT"):
            places.append(layout.run_dir(Path(root), name))

    run = next((place for place in places if place.is_dir()), None)
    if run is None:
        looked = " and ".join(str(place) for place in places)
        raise UserError(
            f"--init_from=run:{name}: no folder exists at {looked}", hint="name a run, or its directory"
        )

    # Links are resolved on both sides, for two paths may name one folder.
    if run.resolve() == run_dir.resolve():
        raise UserError(
            f"--init_from=run:{name}: a run cannot begin from itself", hint="choose another --run_dir"
        )

    return run


def fill_from_checkpoint(contents: Contents, parameters: dict[str, Tensor]) -> None:
    """Read the weights straight into the parameters, checksummed on the way."""
    wanted = {f"model.{name}": parameter for name, parameter in parameters.items()}
    try:
        fill_tensors(contents, wanted)
    except Damaged as damage:
        raise UserError(
            f"checkpoint {contents.folder} is damaged: {damage}", hint="take another @STEP"
        ) from None


def check_fits(source: Source, recipe: Recipe, tokenizer: str) -> None:
    """Raise UserError unless the recipe's model can have these weights, and the data their tokens.

    A rotary model may have another number of positions: it holds no weight for them.
    """
    may_differ = set(MAY_DIFFER)
    if not load_family(recipe.model.architecture).learned_positions:
        may_differ.add("max_position_embeddings")

    lines = [
        f"{field}: {getattr(source.model, field)} in the weights, {getattr(recipe.model, field)} in this run"
        for field in ModelConfig.__struct_fields__
        if field not in may_differ and getattr(source.model, field) != getattr(recipe.model, field)
    ]
    # Two tokenizers of the same size give other meanings to the same ids.
    if source.tokenizer and source.tokenizer != tokenizer:
        lines.append(f"tokenizer of the data: {source.tokenizer} for the weights, {tokenizer} in this run")

    if lines:
        raise UserError(
            f"--init_from={source.origin.source}: its weights belong to another model:\n  "
            + "\n  ".join(lines),
            hint="without --model and sizes, they are taken from the weights; "
            "python -m jobctl.trainer.model_of writes them as a file for jobctl --model",
        )


@torch.no_grad()
def fill_model(model: Decoder, source: Source) -> None:
    """Replace the model's random weights; those of position tables are computed and no weights. Raises UserError."""
    source.fill(dict(model.named_parameters()))


def with_digests(source: Source) -> Origin:
    """Return the origin with the checksum of each file. Raises UserError if one cannot be read."""
    digests = {file.name: digest(file) for file in source.files}
    origin = source.origin
    return Origin(source=origin.source, path=origin.path, step=origin.step, files=digests)


def digest(file: Path) -> str:
    """Return the xxh3_128 of a file. Raises UserError."""
    sum_of_bytes = xxhash.xxh3_128()
    try:
        with open(file, "rb") as stream:
            # In pieces, because a file may be larger than the memory.
            for piece in pieces(stream.read):
                sum_of_bytes.update(piece)
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}") from error

    return sum_of_bytes.hexdigest()


def pieces(read: Callable[[int], bytes]) -> Iterator[bytes]:
    while piece := read(PIECE_BYTES):
        yield piece

"""Translate our weights and configurations to a folder of ``transformers``, and back.

Nothing here imports ``transformers``. Its folder is ``config.json`` and safetensors files. Each family's
mapping has the names in them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from jobctl.jobs.catalog.consistency import check_model
from jobctl.jobs.catalog.schema import ModelConfig
from jobctl.jobs.core.errors import UserError, nearest
from jobctl.jobs.core.names import parts_of
from jobctl.trainer.models.attention import ManualAttention
from jobctl.trainer.models.building import build_model
from jobctl.trainer.models.hf_mapping import HfMapping, Weights
from jobctl.trainer.models.registry import families, family_of


def mapping_of(architecture: str) -> HfMapping:
    """Return a family's mapping.

    Raises UserError for an unknown family, and for a family without a mapping.
    """
    mapping = family_of(architecture).hf
    if mapping is None:
        raise UserError(
            f"the family {architecture} has no counterpart in transformers",
            hint=f"give trainer/models/{architecture}/ an hf.py with its mapping",
        )

    return mapping


def hf_config(config: ModelConfig, dtype: str, token_ids: dict[str, int | None]) -> dict[str, Any]:
    """Return the content of ``config.json``.

    ``token_ids`` may have ``bos_token_id`` and ``eos_token_id``. Raises UserError for an unknown family, and
    for a shape that the family has only here.
    """
    mapping = mapping_of(config.architecture)
    shared = {
        "model_type": mapping.model_type,
        "architectures": [mapping.class_name],
        "vocab_size": config.vocab_size,
        # LLaMA of transformers refuses more than 1. The weights exist already, so the value has no effect.
        "initializer_range": min(config.initializer_range, 1.0),
        "tie_word_embeddings": config.tie_word_embeddings,
        # Newer releases of transformers read `dtype`, older ones `torch_dtype`.
        "dtype": dtype,
        "torch_dtype": dtype,
        "bos_token_id": token_ids.get("bos_token_id"),
        "eos_token_id": token_ids.get("eos_token_id"),
    }

    return shared | mapping.config_values(config)


def config_from_hf(values: dict[str, Any]) -> ModelConfig:
    """Return our configuration for a ``config.json``.

    Raises UserError for an unknown ``model_type``, and for a key that our models do not support.
    """
    by_type = {family.hf.model_type: family for family in families() if family.hf is not None}
    model_type = str(values.get("model_type", ""))
    if model_type not in by_type:
        raise UserError(
            f"config.json: model_type '{model_type}' is not one of ours", hint=nearest(model_type, by_type)
        )

    name = by_type[model_type].name

    return mapping_of(name).model_config(name, values)


def to_hf(config: ModelConfig, state: Weights) -> Weights:
    """Return our state dict under their names. Raises UserError for an unknown family."""
    return mapping_of(config.architecture).to_hf(config, state)


def from_hf(config: ModelConfig, state: Weights) -> Weights:
    """Return their state dict under our names. Raises UserError for weights that our models do not have."""
    # A tied head is the embedding. Some files store it a second time.
    if config.tie_word_embeddings:
        state = {name: tensor for name, tensor in state.items() if name != "lm_head.weight"}
    ours = mapping_of(config.architecture).from_hf(state)

    return ours if config.bias else without_biases(ours)


def without_biases(ours: Weights) -> Weights:
    """Return the weights of a model without biases. Raises UserError if one is not zero."""
    for name, tensor in ours.items():
        if name.endswith(".bias") and not tensor.is_meta and bool(tensor.any()):
            raise UserError(f"{name} is not zero, and the model has no biases", hint="say --bias=True")

    return {name: tensor for name, tensor in ours.items() if not name.endswith(".bias")}


@dataclass(frozen=True)
class HfFolder:
    """A folder that ``save_pretrained`` wrote, checked: its weights are those of ``config``."""

    path: Path
    config: ModelConfig
    files: tuple[Path, ...]
    """Its safetensors files."""

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """Yield our names and weights. Only one tensor of a file is in memory at a time.

        Raises UserError if a file cannot be read.
        """
        for name, tensor in stored_tensors(self.files):
            yield from from_hf(self.config, {name: tensor}).items()


def open_hf(folder: Path) -> HfFolder:
    """Return a folder that ``save_pretrained`` wrote, after a check of all names, shapes and biases.

    Only safetensors are read, because pickled weights can run code. Raises UserError if a file is missing or
    damaged, and if the weights are not those of one of our models.
    """
    config = read_config(folder)
    files = weight_files(folder)
    # Their models may have biases that are all zero. Those of our own exports are.
    if config.bias and not has_biases(config, files):
        config = msgspec.structs.replace(config, bias=False)

    check_shapes(config, from_hf(config, dict(stored_shapes(files))), folder)

    return HfFolder(folder, config, files)


def load_hf(folder: Path) -> tuple[ModelConfig, Weights]:
    """Return configuration and state dict of a folder that ``save_pretrained`` wrote. Raises UserError."""
    opened = open_hf(folder)
    return opened.config, dict(opened.weights())


def read_config(folder: Path) -> ModelConfig:
    """Return our configuration for the folder's ``config.json``. Raises UserError."""
    file = folder / "config.json"
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{file} cannot be read: {error}", hint="is it a transformers folder?") from error

    if not isinstance(values, dict):
        raise UserError(f"{file} is not an object of JSON", hint="is it a transformers folder?")

    try:
        # Converted once more, so that the schema checks values that come from a foreign file.
        config = msgspec.convert(msgspec.to_builtins(config_from_hf(values)), ModelConfig)
    except (msgspec.ValidationError, TypeError, ValueError, ArithmeticError) as error:
        raise UserError(f"{file}: {error}", hint="save the model again with a recent transformers") from error

    check_model(config)

    return config


def weight_files(folder: Path) -> tuple[Path, ...]:
    """Return the safetensors files of the folder, by the index if there is one. Raises UserError."""
    index = folder / "model.safetensors.index.json"
    single = folder / "model.safetensors"
    names = {single.name} if single.is_file() else set()

    try:
        if index.is_file():
            # The index wins, for a folder may still hold an older single file.
            names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())

        # The names come from a file of somebody else, and must stay in the folder.
        files = tuple(folder / parts_of(name)[-1] for name in sorted(names))
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{index} is not an index of weights: {error!r}", hint="fetch the model again"
        ) from error

    if not files:
        hint = "save it with safe_serialization=True; pickled weights are not loaded"
        raise UserError(f"{folder} has no model*.safetensors", hint=hint)

    # Checked before any weight is read, which may take minutes.
    absent = [file.name for file in files if not file.is_file()]
    if absent:
        raise UserError(f"{folder} lacks {absent[0]} of {len(files)} files", hint="fetch the model again")

    return files


def stored_tensors(files: Sequence[Path], ending: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yield the names and tensors of all files whose names have the ``ending``."""
    for file in files:
        try:
            # The file is mapped, so a tensor takes memory only when it is asked for.
            with safe_open(file, framework="pt") as stored:
                for name in stored.keys():  # noqa: SIM118 - it is no mapping
                    if name.endswith(ending):
                        yield name, stored.get_tensor(name)
        except (OSError, SafetensorError) as error:
            raise unreadable(file, error) from error


def stored_shapes(files: Sequence[Path]) -> Iterator[tuple[str, Tensor]]:
    """Yield the names of all files' tensors, and tensors of the right shapes without memory."""
    for file in files:
        try:
            with safe_open(file, framework="pt") as stored:
                for name in stored.keys():  # noqa: SIM118 - it is no mapping
                    yield name, torch.empty(stored.get_slice(name).get_shape(), device="meta")
        except (OSError, SafetensorError) as error:
            raise unreadable(file, error) from error


def unreadable(file: Path, error: Exception) -> UserError:
    return UserError(f"{file} cannot be read: {error}", hint="it may be cut short; fetch the model again")


def has_biases(config: ModelConfig, files: Sequence[Path]) -> bool:
    """Return True if one of the biases that our model may have is not zero."""
    return any(
        bool(bias.any())
        for name, tensor in stored_tensors(files, ".bias")
        for bias in from_hf(config, {name: tensor}).values()
    )


def check_shapes(config: ModelConfig, state: Weights, folder: Path) -> None:
    """Raise UserError for the first weight that is missing, superfluous or has another shape."""
    # Without memory, since only names and shapes are compared.
    with torch.device("meta"):
        model = build_model(config, ManualAttention())

    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    loaded = {name: tuple(tensor.shape) for name, tensor in state.items()}

    for name in sorted(expected.keys() | loaded.keys()):
        if expected.get(name) != loaded.get(name):
            raise UserError(
                f"{folder}: {name} is {loaded.get(name, 'missing')}, "
                f"expected {expected.get(name, 'no such weight')}",
                hint="the weights do not belong to the config.json beside them",
            )

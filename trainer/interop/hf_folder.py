"""Our weights and configurations as a folder of ``transformers``, and back.

Nothing here imports ``transformers``: its folder is ``config.json`` and safetensors files. The names
inside come from each family's mapping.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from jobctl.jobs.catalog.schema import ModelConfig
from jobctl.jobs.core.errors import UserError, nearest
from jobctl.trainer.models import build_model
from jobctl.trainer.models.attention import ManualAttention
from jobctl.trainer.models.hf_mapping import HfMapping, Weights
from jobctl.trainer.models.registry import families, family_of


def mapping_of(architecture: str) -> HfMapping:
    """Return a family's mapping. Raises UserError for an unknown family, and for one without."""
    mapping = family_of(architecture).hf
    if mapping is None:
        raise UserError(
            f"the family {architecture} has no counterpart in transformers",
            hint=f"give trainer/models/{architecture}/ an hf.py with its mapping",
        )

    return mapping


def hf_config(config: ModelConfig, dtype: str, token_ids: dict[str, int | None]) -> dict[str, Any]:
    """Return the content of ``config.json``.

    ``token_ids`` may give ``bos_token_id`` and ``eos_token_id``. Raises UserError for an unknown
    family, and for a shape of ours that theirs cannot have.
    """
    mapping = mapping_of(config.architecture)
    shared = {
        "model_type": mapping.model_type,
        "architectures": [mapping.class_name],
        "vocab_size": config.vocab_size,
        "initializer_range": config.initializer_range,
        "tie_word_embeddings": config.tie_word_embeddings,
        "dtype": dtype,
        "torch_dtype": dtype,
        "bos_token_id": token_ids.get("bos_token_id"),
        "eos_token_id": token_ids.get("eos_token_id"),
    }

    return shared | mapping.config_values(config)


def config_from_hf(values: dict[str, Any]) -> ModelConfig:
    """Return our configuration of a ``config.json``.

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
    """Return their state dict under our names. Raises UserError for weights that ours cannot hold."""
    if config.tie_word_embeddings:
        state = {name: tensor for name, tensor in state.items() if name != "lm_head.weight"}
    return mapping_of(config.architecture).from_hf(state)


def load_hf(folder: Path) -> tuple[ModelConfig, Weights]:
    """Return configuration and state dict of a folder that ``save_pretrained`` wrote.

    Only safetensors are read. Raises UserError where a file is missing, and where the weights are not
    those of one of our models.
    """
    try:
        config = config_from_hf(json.loads((folder / "config.json").read_text()))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{folder}/config.json cannot be read: {error}", hint="is it a transformers folder?"
        ) from error

    files = sorted(folder.glob("model*.safetensors"))
    if not files:
        hint = "save it with safe_serialization=True; pickled weights are not loaded"
        raise UserError(f"{folder} has no model*.safetensors", hint=hint)

    theirs: Weights = {}

    for file in files:
        theirs.update(load_file(file))

    state = from_hf(config, theirs)
    check_shapes(config, state, folder)

    return config, state


def check_shapes(config: ModelConfig, state: Weights, folder: Path) -> None:
    """Raise UserError for the first weight that is missing, superfluous or of another shape."""
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

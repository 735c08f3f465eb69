"""A shape that was found is a model that resolves, is built and fits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from jobctl.jobs.catalog import arithmetic
from jobctl.jobs.scaling.architectures import architectures, template
from jobctl.jobs.scaling.entry import entry_yaml
from jobctl.jobs.scaling.law import load_law
from jobctl.jobs.scaling.search import Wish, search
from jobctl.jobs.spec.job_spec import TrainSpec
from jobctl.jobs.spec.resolution import Choices, resolve
from jobctl.trainer.models.attention import ManualAttention
from jobctl.trainer.models.building import build_model


@pytest.mark.parametrize("family", ["gpt2", "llama2", "llama3", "qwen3"])
def test_the_written_entry_trains(family: str, tmp_path: Path) -> None:
    chosen = template(family)
    best = search(architectures(chosen), load_law("besiroglu_2024"), Wish(flops=1e20, block_size=1024))[0]
    file = tmp_path / "planned.yaml"
    file.write_text(entry_yaml(best, chosen, 1024, "a test"))

    spec = resolve(Choices(model=str(file), hardware="h200"), version="t").spec
    assert isinstance(spec, TrainSpec)
    assert spec.model == best.model
    assert spec.train.block_size == 1024
    assert spec.train.warmup_iters < spec.train.lr_decay_iters

    with torch.device("meta"):
        model = build_model(spec.model, ManualAttention())

    assert sum(parameter.numel() for parameter in model.parameters()) == best.parameters
    assert arithmetic.parameters(spec.model) == best.parameters

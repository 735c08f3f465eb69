"""A Hugging Face model as an entry of the catalogue."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from jobctl.jobs.catalog.loader import load_model
from jobctl.jobs.catalog.schema import ModelConfig
from jobctl.jobs.spec.job_spec import TrainSpec
from jobctl.jobs.spec.resolution import Choices, resolve
from jobctl.trainer import model_of
from jobctl.trainer.interop.hf_folder import open_hf
from tests.trainer.training.test_initial import THEIRS, saved


@pytest.mark.parametrize("kind", THEIRS)
def test_jobctl_resolves_the_file_to_the_models_own_sizes(tmp_path: Path, kind: str) -> None:
    saved(tmp_path / "model", kind)
    file = tmp_path / "mine.yaml"
    assert model_of.main([str(tmp_path / "model"), "-o", str(file)]) == 0
    choices = Choices(
        model=str(file),
        hardware="cpu",
        sets=("tokenizer=gpt2", "vocab_size=50304", "block_size=32"),
        named={"init_from": f"hf:{tmp_path / 'model'}"},
    )
    spec = resolve(choices, version="0").spec
    assert isinstance(spec, TrainSpec)
    config = open_hf(tmp_path / "model").config
    assert spec.model == msgspec.structs.replace(config, vocab_size=50304)
    assert spec.train.init_from == f"hf:{tmp_path / 'model'}"


def test_only_what_differs_from_the_defaults_is_written() -> None:
    entry = load_model("qwen3_smoke")
    text = model_of.entry_text(entry.config, Path("folder"))
    assert text.startswith("summary: qwen3 of folder (6,636,224 parameters)\n")
    assert "  rope_theta: 1000000.0\n" in text
    assert "rope_factor" not in text
    assert set(model_of.settings(entry.config)) < set(ModelConfig.__struct_fields__)


def test_a_folder_that_is_none_is_an_error_in_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert model_of.main([str(tmp_path)]) == 2
    assert "config.json cannot be read" in capsys.readouterr().err

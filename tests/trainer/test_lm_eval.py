"""A kept checkpoint through the harness: it gets an exported folder, and its exit code is ours."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from jobctl.trainer import export, lm_eval, sample
from jobctl.trainer.checkpoint.weights import load_model_weights
from tests.trainer.checkpoint.saving import checkpointer, state
from tests.trainer.models import tiny
from tests.trainer.test_export import write_tokenizer

HARNESS = """#!{python}
import json, pathlib, sys
arguments = dict(zip(sys.argv[1::2], sys.argv[2::2]))
model = dict(part.split("=", 1) for part in arguments["--model_args"].split(","))
files = sorted(path.name for path in pathlib.Path(model["pretrained"]).iterdir())
config = json.loads(pathlib.Path(model["pretrained"], "config.json").read_text())
pathlib.Path({report!r}).write_text(json.dumps([arguments, model, files, config["model_type"]]))
sys.exit(7)
"""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with checkpoints of steps 1 and 2, of other weights each; the first one is the best."""
    run = tmp_path / "runs/run"
    for step in (1, 2):
        model = tiny.model("qwen3", seed=step)
        weights = {f"model.{name}": weight.detach() for name, weight in model.named_parameters()}
        writer = checkpointer(run, weights)
        writer.save(state(step=step, model=model.config, tokenizer="words"), best=step == 1)
        assert writer.wait()
    (tmp_path / "tokenizers").mkdir()
    write_tokenizer(tmp_path / "tokenizers/words")
    return run


@pytest.fixture
def harness(tmp_path: Path) -> Path:
    program = tmp_path / "lm_eval"
    program.write_text(HARNESS.format(python=sys.executable, report=str(tmp_path / "report")))
    program.chmod(0o755)
    return program


def test_the_harness_gets_the_exported_checkpoint_and_its_own_options(
    run: Path, harness: Path, tmp_path: Path
) -> None:
    words = ["--tasks", "hellaswag,piqa", "--harness", str(harness), "--device", "cpu", "--batch_size", "4"]
    assert lm_eval.main([str(run), *words]) == 7
    arguments, model, files, kind = json.loads((tmp_path / "report").read_text())
    assert arguments["--model"] == "hf"
    assert (arguments["--tasks"], arguments["--device"]) == ("hellaswag,piqa", "cpu")
    assert arguments["--batch_size"] == "4"
    assert model["dtype"] == "float32"
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(files)
    assert kind == "qwen3"
    assert not Path(model["pretrained"]).exists()
    assert not (run / "export").exists()


def test_the_exported_folder_is_kept_where_asked(run: Path, harness: Path, tmp_path: Path) -> None:
    output = tmp_path / "kept"
    words = ["--tasks", "x", "--harness", str(harness), "--output", str(output), "--best"]
    assert lm_eval.main([str(run), *words]) == 7
    assert (output / "model.safetensors").is_file()


def test_a_missing_harness_says_how_to_install_it(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert lm_eval.main([str(run), "--tasks", "x", "--harness", "no-such-program"]) == 2
    assert 'pip install "lm_eval[hf]"' in capsys.readouterr().err


def test_without_a_tokenizer_it_asks_for_one(
    run: Path, harness: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "tokenizers/words").rename(tmp_path / "elsewhere")
    assert lm_eval.main([str(run), "--tasks", "x", "--harness", str(harness)]) == 2
    assert "--tokenizer DIR" in capsys.readouterr().err


@pytest.mark.parametrize(("words", "seed"), [([], 2), (["--best"], 1), (["--step", "1"], 1)])
def test_export_takes_the_checkpoint_that_is_named(
    run: Path, tmp_path: Path, words: list[str], seed: int
) -> None:
    from safetensors.torch import load_file

    output = tmp_path / "out"
    assert export.main([str(run), "--output", str(output), *words]) == 0
    expected = tiny.model("qwen3", seed=seed).state_dict()["embed_tokens.weight"]
    assert torch.equal(load_file(output / "model.safetensors")["model.embed_tokens.weight"], expected)


@pytest.mark.parametrize("command", [export.main, sample.main])
def test_a_checkpoint_that_is_not_kept_is_named_with_those_that_are(
    run: Path, command: object, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--prompt", "w1", "--device", "cpu"] if command is sample.main else []
    assert command([str(run), "--step", "9", *words]) == 2  # type: ignore[operator]
    assert "it keeps 1, 2" in capsys.readouterr().err


def test_sampling_takes_the_best_weights(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = []
    for words in ([], ["--best"], ["--step", "1"]):
        options = ["--prompt", "w5", "--temperature", "0", "--max_new_tokens", "8", "--device", "cpu"]
        assert sample.main([str(run), *options, *words]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] != texts[1] == texts[2]


def test_the_weights_alone_of_the_best_validation_are_enough(run: Path) -> None:
    model = tiny.model("qwen3", seed=5)
    weights = {f"model.{name}": weight.detach() for name, weight in model.named_parameters()}
    writer = checkpointer(run, weights)
    writer.save(state(step=3, model=model.config, tokenizer="words"), holds="weights", best=True)
    assert writer.wait()
    best = load_model_weights(run, "best")[1]
    assert torch.equal(best["embed_tokens.weight"], model.state_dict()["embed_tokens.weight"])
    assert not torch.equal(load_model_weights(run)[1]["embed_tokens.weight"], best["embed_tokens.weight"])

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import torch
from safetensors import SafetensorError, safe_open
from tokenizers import Tokenizer, models, pre_tokenizers

from jobctl.jobs.catalog.consistency import check_model
from jobctl.jobs.catalog.loader import load_family
from jobctl.jobs.catalog.schema import ModelConfig, TrainConfig
from jobctl.jobs.core.errors import UserError
from jobctl.trainer import export, sample
from jobctl.trainer.checkpoint.checkpointer import Checkpointer
from jobctl.trainer.checkpoint.state import State
from jobctl.trainer.distributed import World
from jobctl.trainer.models.attention import ManualAttention
from jobctl.trainer.models.building import build_model
from jobctl.trainer.models.layers.decoder import Decoder
from tests.trainer.models import tiny


def write_tokenizer(folder: Path) -> Path:
    """101 words ``w0`` … ``w99`` and ``<end>``, split at blanks."""
    folder.mkdir()
    vocabulary = {f"w{i}": i for i in range(100)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(["<end>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": {"__type": "AddedToken", "content": "<end>"},
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "notes.txt").write_text("not a tokenizer file")
    return folder


def serve(monkeypatch: pytest.MonkeyPatch, model: Decoder) -> None:
    monkeypatch.setattr(
        export, "load_model_weights", lambda run, which="": (model.config, model.state_dict())
    )


@pytest.mark.parametrize("shape", tiny.WITH_HF)
def test_transformers_loads_the_folder_with_equal_logits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: str
) -> None:
    from transformers import AutoModelForCausalLM

    model = tiny.model(shape)
    serve(monkeypatch, model)
    assert export.main([str(tmp_path), "--format", "hf"]) == 0
    folder = tmp_path / "export" / "hf"
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    theirs, report = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert not report["mismatched_keys"]
    assert next(theirs.parameters()).dtype == torch.float32
    with torch.no_grad():
        logits = theirs.eval()(tiny.tokens()).logits
        torch.testing.assert_close(logits, model(tiny.tokens()), rtol=1e-5, atol=2e-5)


def test_a_real_checkpoint_is_exported_with_its_tokenizer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoModelForCausalLM

    model = tiny.model("qwen3")
    run = tmp_path / "runs" / "run"
    world = World(rank=0, size=1, device=torch.device("cpu"))
    weights = {f"model.{name}": parameter.detach() for name, parameter in model.named_parameters()}
    writer = Checkpointer(run, world, lambda: weights, keep_last=1, keep_every=0)
    facts = {
        "name": "tiny",
        "sources": (),
        "fingerprint": "none",
        "sample_order": 2,
        "tokenizer": "words",
        "train": TrainConfig(),
    }
    writer.save(State(step=3, samples=6, model=model.config, **facts))
    assert writer.wait()
    assert export.main([str(run), "--output", str(tmp_path / "bare")]) == 0
    assert "tokenizer was not found" in capsys.readouterr().err
    with monkeypatch.context() as patch:
        stray = msgspec.structs.replace(export.recorded_state(run), tokenizer="../runs/run")
        patch.setattr(export, "recorded_state", lambda run: stray)
        assert export.main([str(run)]) == 2
        assert "it leads out of its folder" in capsys.readouterr().err
    (tmp_path / "tokenizers").mkdir()
    write_tokenizer(tmp_path / "tokenizers" / "words")
    assert export.main([str(run)]) == 0
    assert not capsys.readouterr().err
    assert (run / "export/hf/tokenizer.json").exists()
    assert len({path.stat().st_mode for path in (run / "export/hf").iterdir()}) == 1, (
        "a group reads all or none"
    )
    assert sample.main([str(run), "--prompt", "w5", "--max_new_tokens", "3", "--device", "cpu"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("w5 w")
    folder = str(run / "export" / "hf")
    assert sample.main([folder, "--prompt", "w5", "--max_new_tokens", "3", "--device", "cpu"]) == 0
    assert capsys.readouterr().out == text
    theirs = AutoModelForCausalLM.from_pretrained(run / "export" / "hf")
    with torch.no_grad():
        logits = theirs(tiny.tokens()).logits
        torch.testing.assert_close(logits, model(tiny.tokens()), rtol=1e-5, atol=2e-5)


def test_biases_of_an_exported_gpt2_are_zeros(tmp_path: Path) -> None:
    model = tiny.model("gpt2")
    export.export_hf(model.config, model.state_dict(), tmp_path / "out")
    with safe_open(tmp_path / "out" / "model.safetensors", "pt") as file:
        biases = [name for name in file.keys() if name.endswith(".bias")]  # noqa: SIM118
        assert len(biases) == 2 * 6 + 1
        assert not any(file.get_tensor(name).any() for name in biases)


@pytest.mark.parametrize("text", [b"{", b"[]", b"\xff\xfe", b"[" * 100_000])
def test_a_damaged_tokenizer_is_named_and_nothing_stays_behind(tmp_path: Path, text: bytes) -> None:
    source = write_tokenizer(tmp_path / "tokenizer")
    (source / "tokenizer_config.json").write_bytes(text)
    model = tiny.model("qwen3")
    with pytest.raises(UserError, match=r"tokenizer_config\.json"):
        export.export_hf(model.config, model.state_dict(), tmp_path / "out", source)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tokenizer"]


def test_the_tokenizer_comes_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import AutoTokenizer

    serve(monkeypatch, tiny.model("qwen3"))
    source = write_tokenizer(tmp_path / "tokenizer")
    output = tmp_path / "out"
    arguments = ["--output", str(output), "--tokenizer", str(source), "--dtype", "bfloat16"]
    assert export.main([str(tmp_path), *arguments]) == 0
    assert not (output / "notes.txt").exists()
    assert AutoTokenizer.from_pretrained(output)("w3 w99 <end>")["input_ids"] == [3, 99, 100]
    values = json.loads((output / "config.json").read_text())
    assert (values["eos_token_id"], values["bos_token_id"], values["dtype"]) == (100, None, "bfloat16")
    with safe_open(output / "model.safetensors", "pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.bfloat16}  # noqa: SIM118


def test_an_existing_folder_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    serve(monkeypatch, tiny.model("qwen3"))
    (tmp_path / "mine").mkdir()
    assert export.main([str(tmp_path), "--output", str(tmp_path / "mine")]) == 2
    assert "exists already" in capsys.readouterr().err
    assert not list((tmp_path / "mine").iterdir())


def test_a_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    model = tiny.model("qwen3")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no tokenizer"):
        export.export_hf(model.config, model.state_dict(), tmp_path / "out", tmp_path / "empty")
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_what_cannot_be_written_is_said_without_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    serve(monkeypatch, tiny.model("qwen3"))
    (tmp_path / "file").touch()
    assert export.main([str(tmp_path), "--output", str(tmp_path / "file" / "out")]) == 1
    assert "out cannot be written" in capsys.readouterr().err

    def full(*_: object, **__: object) -> None:
        raise SafetensorError("No space left on device")

    monkeypatch.setattr(export, "save_file", full)
    assert export.main([str(tmp_path), "--output", str(tmp_path / "out")]) == 1
    assert "No space left" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_run_without_a_checkpoint_is_a_user_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export.main([str(tmp_path)]) == 2
    assert "jobctl: " in capsys.readouterr().err


def test_training_imports_no_transformers() -> None:
    names = ("training.session", "models", "interop.hf_folder")
    imports = ", ".join(f"jobctl.trainer.{name}" for name in names)
    check = f"import sys, {imports}; assert not {{'transformers', 'tokenizers'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", check], check=True)


SIZES = (1, 2, 3, 4, 6, 8)


def drawn(architecture: str, draw: random.Random) -> ModelConfig:
    """Return a random model of a family that the catalogue allows."""
    family = load_family(architecture)
    heads = draw.choice(SIZES)
    groups = draw.choice([size for size in SIZES if heads % size == 0]) if family.grouped_queries else heads
    rotary = family.rotary_positions
    config = ModelConfig(
        architecture=architecture,
        vocab_size=draw.choice([101, 256]),
        hidden_size=draw.choice([24, 32, 40, 48]),
        intermediate_size=draw.choice([40, 64]),
        num_hidden_layers=draw.choice([1, 2]),
        num_attention_heads=heads,
        num_key_value_heads=groups,
        head_dim=draw.choice([4, 6, 8, 16]),
        max_position_embeddings=64,
        rope_theta=draw.choice([1e4, 5e5]),
        rope_type=draw.choice(["default", "linear", "llama3"]) if rotary else "default",
        rope_factor=draw.choice([1.0, 8.0]),
        rope_original_positions=32,
        tie_word_embeddings=draw.choice([True, False]),
        initializer_range=draw.choice([0.02, 1.0, 1.5]),
        bias=family.biases and draw.choice([True, False]),
    )
    check_model(config)

    return config


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "qwen3"])
def test_what_is_exported_loads_and_what_would_not_is_refused_before_it_is_written(
    tmp_path: Path, architecture: str
) -> None:
    """And no shape is refused that transformers would take."""
    from transformers import AutoModelForCausalLM

    draw = random.Random(f"export {architecture}")
    outcomes = []
    for number in range(24):
        config = drawn(architecture, draw)
        torch.manual_seed(number)
        model = build_model(config, ManualAttention()).requires_grad_(False)
        output = tmp_path / str(number)
        refused = refusal(config, model.state_dict(), output)
        if refused:
            assert "transformers" in refused
            assert not output.exists()
            assert cannot_be_theirs(config)
            outcomes.append("refused")
            continue

        theirs_model = AutoModelForCausalLM.from_pretrained(output, attn_implementation="eager")
        words = torch.randint(config.vocab_size, (2, 33), generator=torch.Generator().manual_seed(number))
        with torch.no_grad():
            expected = theirs_model(words).logits
            torch.testing.assert_close(
                model(words), expected, rtol=0, atol=5e-6 * float(expected.abs().max())
            )
        outcomes.append("loaded")
    assert "loaded" in outcomes
    assert ("refused" in outcomes) == (architecture != "qwen3")


def refusal(config: ModelConfig, state: dict[str, torch.Tensor], output: Path) -> str:
    """Export, and return why that was refused; nothing where it was not."""
    try:
        export.export_hf(config, state, output)
    except UserError as error:
        return str(error)
    return ""


def cannot_be_theirs(config: ModelConfig) -> bool:
    """Return whether transformers has no model of this shape, by asking it where it knows."""
    from transformers import AutoConfig

    heads = config.num_attention_heads
    if config.architecture == "gpt2":  # it has no head_dim of its own
        return heads * config.head_dim != config.hidden_size

    try:
        AutoConfig.for_model(config.architecture, hidden_size=config.hidden_size, num_attention_heads=heads)
    except Exception as error:
        return "multiple" in str(error)
    return False

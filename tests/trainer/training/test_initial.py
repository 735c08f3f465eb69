"""A new run from the weights of a Hugging Face folder or of another run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from torch import Tensor, nn

from jobctl.jobs.core.errors import UserError
from jobctl.trainer.checkpoint import publication
from jobctl.trainer.checkpoint.weights import load_model_weights, recorded_state
from jobctl.trainer.training import initial
from jobctl.trainer.training.initial import find_run, open_source
from tests.trainer.corpus import QUICK, SHARDINGS, arguments, write_corpus
from tests.trainer.running import losses, on_ranks, prepare, records, train

SIZES: dict[str, Any] = {
    "vocab_size": 256,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
LLAMA3 = {"rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0}
THEIRS: dict[str, dict[str, Any]] = {
    "llama-2": {"model_type": "llama", **SIZES, "num_key_value_heads": 4, "tie_word_embeddings": False},
    "llama-3": {
        "model_type": "llama",
        **SIZES,
        "rope_parameters": {"rope_type": "default", "rope_theta": 5e5},
    },
    "llama-3.1": {
        "model_type": "llama",
        **SIZES,
        "tie_word_embeddings": False,
        "rope_parameters": {
            **LLAMA3,
            "rope_theta": 5e5,
            "factor": 8.0,
            "original_max_position_embeddings": 16,
        },
    },
    "llama-3.2": {
        "model_type": "llama",
        **SIZES,
        "head_dim": 16,
        "tie_word_embeddings": True,
        "rope_parameters": {
            **LLAMA3,
            "rope_theta": 5e5,
            "factor": 32.0,
            "original_max_position_embeddings": 32,
        },
    },
    "qwen3": {"model_type": "qwen3", **SIZES, "head_dim": 16, "tie_word_embeddings": False},
    "qwen3-tied": {"model_type": "qwen3", **SIZES, "head_dim": 8, "tie_word_embeddings": True},
    "gpt2": {
        "model_type": "gpt2",
        "vocab_size": 256,
        "n_embd": 48,
        "n_layer": 2,
        "n_head": 4,
        "n_positions": 64,
    },
    "gpt2-untied": {
        "model_type": "gpt2",
        "vocab_size": 256,
        "n_embd": 48,
        "n_layer": 2,
        "n_head": 4,
        "n_positions": 64,
        "tie_word_embeddings": False,
    },
}


def saved(folder: Path, kind: str, shard_size: str = "5GB") -> nn.Module:
    """Save a random model of the real transformers, biases and gains included; return it."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(3)
    theirs = AutoModelForCausalLM.from_config(
        AutoConfig.for_model(**THEIRS[kind]), attn_implementation="eager"
    )
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    theirs.save_pretrained(folder, max_shard_size=shard_size)
    return theirs.eval()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("data") / "data")


@pytest.fixture(scope="module")
def first(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of six steps with checkpoints at 2, 4 and 6; step 4 is its best."""
    run = tmp_path_factory.mktemp("runs") / "first"
    assert train(arguments(data, run, checkpoint_interval=2, keep_last_checkpoints=9)) == 0
    (run / "checkpoints/BEST").write_text("step-4\n")
    return run


def quick(data: Path, run: Path, **flags: object) -> list[str]:
    """Return a command line without the sizes of a model."""
    return [
        f"--run_dir={run}",
        f"--dataset={data}",
        *(f"--{key}={value}" for key, value in (QUICK | flags).items()),
    ]


def tokens() -> Tensor:
    return torch.randint(256, (2, 61), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("shard_size", ["5GB", "20KB"])
@pytest.mark.parametrize("kind", THEIRS)
def test_a_run_begins_with_the_logits_of_transformers(
    data: Path, tmp_path: Path, kind: str, shard_size: str
) -> None:
    theirs = saved(tmp_path / "model", kind, shard_size)
    assert len(list((tmp_path / "model").glob("*.safetensors"))) == 1 or shard_size == "20KB"
    training = prepare(quick(data, tmp_path / "run", init_from=f"hf:{tmp_path / 'model'}"))
    with torch.no_grad():
        expected = theirs(tokens()).logits
        got = training.run.stepper.model(tokens())
    torch.testing.assert_close(got, expected, rtol=0, atol=2e-6 * float(expected.abs().max()))


def test_where_the_weights_come_from_is_in_every_checkpoint_and_in_the_log(
    data: Path, tmp_path: Path
) -> None:
    saved(tmp_path / "model", "qwen3")
    command = quick(data, tmp_path / "run", init_from=f"hf:{tmp_path / 'model'}", max_iters=2)
    assert train(command) == 0
    assert train([*command, "--max_iters=4"]) == 0  # the same command again resumes
    state = recorded_state(tmp_path / "run")
    assert state is not None
    assert state.step == 4
    origin = state.origin
    assert origin is not None
    assert (origin.source, origin.path) == (f"hf:{tmp_path / 'model'}", str(tmp_path / "model"))
    assert set(origin.files) == {"config.json", "model.safetensors"}
    assert origin.files["config.json"] == initial.digest(tmp_path / "model/config.json")
    starts = records(tmp_path / "run", "start")
    assert [start["startup_info"]["resumed_from_step"] for start in starts] == [None, 2]
    assert all(str(origin) == start["startup_info"]["weights_from"] for start in starts)


def test_a_run_that_began_otherwise_is_not_begun_again(data: Path, tmp_path: Path, first: Path) -> None:
    saved(tmp_path / "model", "qwen3")
    run = tmp_path / "run"
    assert train(quick(data, run, init_from=f"hf:{tmp_path / 'model'}", max_iters=2)) == 0
    with pytest.raises(UserError, match=rf"began with hf:{tmp_path}/model and is at step 2"):
        train(quick(data, run, init_from=f"run:{first}", max_iters=4))
    assert train(quick(data, run, init_from="resume", max_iters=3)) == 0


@pytest.mark.parametrize(("which", "step"), [("", 6), ("@2", 2), ("@best", 4)])
def test_another_runs_weights_with_a_new_schedule_data_and_block_size(
    data: Path, tmp_path: Path, first: Path, which: str, step: int
) -> None:
    other = write_corpus(tmp_path / "other", seed=9)
    run = first.parent / f"second{which}".replace("@", "-")
    changes = {"init_from": f"run:first{which}", "block_size": 32, "learning_rate": 1e-4, "min_lr": 0.0}
    training = prepare(quick(other, run, **changes))
    expected = load_model_weights(first, which.lstrip("@"))[1]
    weights = dict(training.run.stepper.model.named_parameters())
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    assert (training.step, training.samples) == (0, 0)
    assert training.run.origin is not None
    assert training.run.origin.step == step
    moments = [state for name, state in training.run.stepper.optimizer.state().items() if "exp_avg" in name]
    assert not any(bool(moment.any()) for moment in moments)
    assert training.train_to_the_end() == 0
    assert losses(run)[0] != losses(first)[0]
    shutil.rmtree(run)


def test_every_layout_begins_with_the_same_weights(data: Path, tmp_path: Path, first: Path) -> None:
    commands = [
        quick(data, tmp_path / name, init_from=f"run:{first}", max_iters=2, **sharding)
        for name, sharding in SHARDINGS.items()
    ]
    assert on_ranks(2, *commands) == [0] * len(commands)
    starts = {name: losses(tmp_path / name)[0] for name in SHARDINGS}
    assert len({round(loss, 5) for loss in starts.values()}) == 1


def test_a_catalogue_model_of_other_sizes_is_refused_with_each_of_them(
    data: Path, tmp_path: Path, first: Path
) -> None:
    with pytest.raises(UserError, match=r"norm_eps: 1e-05 in the weights, 0\.1 in this run") as refused:
        prepare(quick(data, tmp_path / "run", init_from=f"run:{first}", norm_eps=0.1, rope_theta=5.0))
    assert "rope_theta: 10000.0 in the weights, 5.0 in this run" in str(refused.value)
    longer = quick(
        data, tmp_path / "longer", init_from=f"run:{first}", max_position_embeddings=128, block_size=128
    )
    assert prepare(longer).run.recipe.model.max_position_embeddings == 128


def test_another_tokenizer_is_refused(tmp_path: Path, first: Path) -> None:
    other = write_corpus(tmp_path / "other", tokenizer="letters")
    with pytest.raises(UserError, match="tokenizer of the data: bytes for the weights, letters in this run"):
        prepare(quick(other, tmp_path / "run", init_from=f"run:{first}"))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("run:nowhere", "no folder exists at .*/nowhere"),
        ("run:first@3", r"no checkpoint '3'\n.*it keeps 2, 4, 6"),
        ("hf:no such folder!", "no such folder exists"),
        ("run:", "it must be auto, scratch, resume, or "),
        ("elsewhere", "it must be auto, scratch, resume, or "),
    ],
)
def test_a_source_that_is_not_there_is_named(data: Path, first: Path, source: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        prepare(quick(data, first.parent / "third", init_from=source))


def test_a_run_does_not_begin_from_itself(first: Path) -> None:
    with pytest.raises(UserError, match="cannot begin from itself"):
        find_run("first", first)


def test_a_name_in_the_shared_root_is_a_run(
    first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root/runs").symlink_to(first.parent)
    monkeypatch.setenv("JOBCTL_ROOT", str(tmp_path / "root"))
    assert find_run("first", tmp_path / "elsewhere/run").resolve() == first


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "model.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}"), "cut short"),
        (lambda folder: truncate(folder / "model.safetensors"), "cut short"),
        (lambda folder: (folder / "config.json").write_bytes(b"\xff\xfe"), "cannot be read"),
        (lambda folder: (folder / "config.json").write_text("[]"), "not an object"),
        (lambda folder: change(folder, num_attention_heads=0), "config.json"),
        (lambda folder: change(folder, hidden_size="wide"), "config.json"),
        (lambda folder: change(folder, num_hidden_layers=3), "blocks.2.*missing"),
        (
            lambda folder: (folder / "model.safetensors.index.json").write_text("{}"),
            "not an index of weights",
        ),
        (
            lambda folder: (folder / "model.safetensors.index.json").write_text(
                '{"weight_map": {"a": "model-2.safetensors"}}'
            ),
            "lacks model-2.safetensors",
        ),
        (
            lambda folder: (folder / "model.safetensors.index.json").write_text(
                '{"weight_map": {"a": "../x"}}'
            ),
            "leads out of its folder",
        ),
    ],
)
def test_a_damaged_folder_is_an_error_in_words(
    tmp_path: Path, damage: Callable[[Path], object], message: str
) -> None:
    folder = tmp_path / "model"
    saved(folder, "qwen3")
    damage(folder)
    with pytest.raises(UserError, match=message):
        open_source(f"hf:{folder}", tmp_path / "run")


def truncate(file: Path) -> None:
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])


def change(folder: Path, **values: object) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def test_a_damaged_checkpoint_is_not_begun_from(data: Path, tmp_path: Path, first: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(first, copy)
    for file in publication.folder(copy, 6).glob("rank-*.safetensors"):
        content = file.read_bytes()
        begin = 8 + int.from_bytes(content[:8], "little")
        file.write_bytes(content[:begin] + bytes(255 - byte for byte in content[begin:]))
    with pytest.raises(UserError, match=r"step-6 is damaged.*checksum does not match"):
        prepare(quick(data, tmp_path / "run", init_from=f"run:{copy}"))
    assert prepare(quick(data, tmp_path / "run", init_from=f"run:{copy}@4")).run.origin is not None


def test_the_hub_is_asked_for_a_name_and_its_words_are_passed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    saved(tmp_path / "snapshot", "llama-3")
    asked: list[tuple[str, list[str]]] = []

    def snapshot(name: str, allow_patterns: list[str]) -> str:
        asked.append((name, allow_patterns))
        if name == "owner/private":
            raise OSError("401 Client Error\nmore")
        return str(tmp_path / "snapshot")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    source = open_source("hf:owner/small", tmp_path / "run")
    assert msgspec.structs.asdict(source.origin)["path"] == str(tmp_path / "snapshot")
    assert asked[0][0] == "owner/small"
    assert not [pattern for pattern in asked[0][1] if "bin" in pattern]
    with pytest.raises(UserError, match=r"cannot be fetched: 401 Client Error\n"):
        open_source("hf:owner/private", tmp_path / "run")

"""Checkpoints of the older format, written by the version before this one, are read, checked and resumed.

``data/one_process`` is of one process, ``data/two_ranks_fsdp`` of two ranks with FSDP; each has the tensors
that the older version read from it, in ``expected.safetensors``.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from jobctl.jobs.core.errors import UserError
from jobctl.trainer import sample
from jobctl.trainer.checkpoint import legacy, publication
from jobctl.trainer.checkpoint.contents import read_contents
from jobctl.trainer.checkpoint.integrity import Damaged
from jobctl.trainer.checkpoint.table import DTYPE_NAMES
from jobctl.trainer.checkpoint.weights import load_model_weights, read_tensors, recorded_state
from jobctl.trainer.distributed import SHARDS_ON_CPU
from tests.trainer.checkpoint.saving import spoil
from tests.trainer.checkpoint.test_inert_pickle import DANGEROUS, Trap, program
from tests.trainer.corpus import SHARDINGS, arguments, write_corpus
from tests.trainer.running import PROJECT, losses, on_ranks, train

DATA = Path(__file__).parent / "data"
OLD = ("one_process", "two_ranks_fsdp")
FLAGS: dict[str, Any] = {
    "vocab_size": 34, "hidden_size": 8, "intermediate_size": 9, "num_hidden_layers": 1, "num_attention_heads": 1,
    "num_key_value_heads": 1, "head_dim": 8, "max_position_embeddings": 16, "max_iters": 4, "checkpoint_interval": 2,
    "keep_last_checkpoints": 9, "skip_loss_spikes": 6.0, "lr_decay_iters": 4,
}  # fmt: skip
LOSSES = [3.5112547874450684, 3.535609722137451]
"""Of the steps 3 and 4, as the older version found them after these checkpoints of step 2."""


@pytest.fixture(params=OLD)
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return shutil.copytree(DATA / request.param, tmp_path / "run")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("data") / "data", tokens=800, vocab=34)


def step_2(run: Path) -> Path:
    return publication.folder(run, 2)


def seal(run: Path, *names: str) -> None:
    """Let ``checksums.json`` agree with what the files are now: a forgery, not damage."""
    path = step_2(run) / "checksums.json"
    sums = json.loads(path.read_text())
    for name in names:
        content = (step_2(run) / name).read_bytes()
        sums[name] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    path.write_text(json.dumps(sums))


def test_every_tensor_is_the_one_that_the_older_version_read(run: Path) -> None:
    expected = load_file(run / "expected.safetensors")
    tensors = read_tensors(read_contents(step_2(run)))
    assert tensors.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(tensors[name], tensor, rtol=0, atol=0, equal_nan=True)


def test_weights_and_state_are_found(run: Path) -> None:
    config, weights = load_model_weights(run)
    assert config.hidden_size == 8
    assert weights["embed_tokens.weight"].shape == (34, 8)
    state = recorded_state(run)
    assert state
    assert (state.step, state.format) == (2, 2)


def test_one_process_resumes(run: Path, data: Path) -> None:
    assert train(arguments(data, run, gradient_accumulation_steps=2, **FLAGS)) == 0
    assert losses(run) == pytest.approx(LOSSES, rel=2e-6)
    assert sorted(path.suffix for path in publication.folder(run, 4).iterdir()) == [
        ".json",
        ".json",
        ".json",
        ".safetensors",
    ]


@pytest.mark.parametrize("mode", list(SHARDINGS))
def test_two_ranks_resume_in_any_layout(run: Path, data: Path, mode: str) -> None:
    layout = {"gradient_accumulation_steps": 1, "use_zero1": False, "use_fsdp": False} | SHARDINGS[mode]
    assert on_ranks(2, arguments(data, run, **FLAGS, **layout)) == [0]
    assert losses(run) == pytest.approx(LOSSES, rel=2e-6)


@pytest.mark.parametrize("how", ["flipped", "truncated", "absent", "replaced"])
@pytest.mark.parametrize("name", ["__0_0.distcp", ".metadata", "state.json", "checksums.json"])
def test_damage_is_said(run: Path, name: str, how: str) -> None:
    spoil(step_2(run) / name, how)
    with pytest.raises(Damaged, match=rf"{re.escape(name)}|checksum"):
        read_tensors(read_contents(step_2(run)))
    with pytest.raises(UserError, match=r"every checkpoint of .* is damaged"):
        load_model_weights(run)


@pytest.mark.skipif(not SHARDS_ON_CPU, reason="this torch shards on GPUs only")
def test_two_ranks_agree_on_damage_that_one_of_them_finds(
    tmp_path: Path, data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(DATA / "two_ranks_fsdp", tmp_path / "run")
    spoil(step_2(run) / "__1_0.distcp", "flipped")
    (result,) = on_ranks(2, arguments(data, run, **FLAGS))
    assert "is damaged" in result
    assert (run / "checkpoints/damaged-step-2").is_dir()


@pytest.mark.parametrize("body", DANGEROUS.values(), ids=list(DANGEROUS))
def test_a_hostile_table_runs_no_command(
    body: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(DATA / "one_process", tmp_path / "run")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (step_2(run) / ".metadata").write_bytes(program(body))
    seal(run, ".metadata")

    assert sample.main([str(run), "--prompt", "x", "--device", "cpu"]) == 2

    assert "every checkpoint of" in capsys.readouterr().err
    assert not list((tmp_path / "here").iterdir())


def archive(pickled: bytes, *, compression: int = zipfile.ZIP_STORED, order: str = "little") -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", compression) as entries:
        entries.writestr("archive/data.pkl", pickled)
        entries.writestr("archive/byteorder", order)
        entries.writestr("archive/data/0", torch.arange(6.0).numpy().tobytes())
    return data.getvalue()


def located(tmp_path: Path, data: bytes, dtype: torch.dtype, shape: tuple[int, ...]) -> bytes:
    """What lies where the tensor of an archive is said to be, the archive standing in the middle of a file."""
    path = tmp_path / "__0_0.distcp"
    path.write_bytes(b"before" + data + b"after")
    with legacy.OpenFiles(tmp_path) as files:
        window = legacy.Window(files[path.name], 6, len(data))
        begin, end = legacy.locate_tensor(window, path.name, dtype, shape)
    return path.read_bytes()[begin:end]


@pytest.mark.parametrize("dtype", [d for d in DTYPE_NAMES if "float8" not in str(d)], ids=str)
def test_the_bytes_of_every_type_that_torch_saves_are_found(tmp_path: Path, dtype: torch.dtype) -> None:
    tensor = torch.arange(6).to(dtype).reshape(2, 3)
    data = io.BytesIO()
    torch.save(tensor, data)
    assert located(tmp_path, data.getvalue(), dtype, (2, 3)) == tensor.view(torch.uint8).numpy().tobytes()


def test_other_tensors_and_other_archives_are_damage(tmp_path: Path) -> None:
    def saved(tensor: torch.Tensor) -> bytes:
        data = io.BytesIO()
        torch.save(tensor, data)
        return data.getvalue()

    whole = torch.arange(6.0).reshape(2, 3)
    good = zipfile.ZipFile(io.BytesIO(saved(whole))).read("archive/data.pkl")
    wrong = {
        "another type": saved(whole.double()),
        "another shape": saved(torch.arange(6.0)),
        "turned": saved(torch.arange(6.0).reshape(3, 2).t()),
        "compressed": archive(good, compression=zipfile.ZIP_DEFLATED),
        "of another byte order": archive(good, order="big"),
        "with a trap": archive(pickle.dumps(Trap())),
        "no tensor": archive(pickle.dumps({})),
    }
    assert located(tmp_path, archive(good), torch.float32, (2, 3)) == whole.numpy().tobytes()
    for kind, data in wrong.items():
        with pytest.raises(Damaged):
            print(kind, located(tmp_path, data, torch.float32, (2, 3)))


def test_a_part_of_a_larger_storage_is_found(tmp_path: Path) -> None:
    data = io.BytesIO()
    torch.save(torch.arange(12.0).reshape(4, 3)[2:], data)
    assert (
        located(tmp_path, data.getvalue(), torch.float32, (2, 3)) == torch.arange(6.0, 12.0).numpy().tobytes()
    )


def test_a_table_that_names_a_file_elsewhere_is_damage(tmp_path: Path) -> None:
    with legacy.OpenFiles(tmp_path) as files, pytest.raises(Damaged, match="is no name of a file beside it"):
        files["../secret"]


def test_no_reader_of_torch_and_no_other_unpickler_is_used() -> None:
    forbidden = re.compile(r"torch\.load|torch\.distributed\.checkpoint import|pickle\.loads?\(")
    for path in (PROJECT / "trainer").rglob("*.py"):
        assert not forbidden.search(path.read_text(encoding="utf-8")), path

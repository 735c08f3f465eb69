import logging
from pathlib import Path

import pytest
import torch

from jobctl.jobs.core.errors import UserError
from jobctl.trainer.checkpoint import publication
from jobctl.trainer.checkpoint.contents import read_contents
from jobctl.trainer.checkpoint.weights import load_model_weights, read_tensors, recorded_state
from tests.trainer.checkpoint.saving import data_files, save, spoil


def save_steps(run: Path) -> None:
    """Checkpoints of the steps 1 and 2; each holds its step as its only weight."""
    for step in (1, 2):
        save(run, {"model.w": torch.full((3,), float(step)), "optimizer.w.exp_avg": torch.zeros(3)}, step)


def test_weights_are_those_of_the_newest_checkpoint(tmp_path: Path) -> None:
    save_steps(tmp_path)
    config, weights = load_model_weights(tmp_path)
    assert config.hidden_size == 32
    assert weights.keys() == {"w"}
    assert weights["w"].tolist() == [2, 2, 2]


def test_a_wrong_bit_makes_the_one_before_count(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save_steps(tmp_path)
    folder = publication.folder(tmp_path, 2)
    segment = read_contents(folder).table.tensors["model.w"].segments[0]
    (file,) = data_files(folder)
    content = bytearray(file.read_bytes())
    content[segment.begin] ^= 1
    file.write_bytes(content)

    with caplog.at_level(logging.WARNING):
        weights = load_model_weights(tmp_path)[1]

    assert weights["w"].tolist() == [1, 1, 1]
    assert "step-2 is damaged, trying the one before" in caplog.text
    assert folder.is_dir()  # whoever only reads renames nothing


def test_no_whole_checkpoint_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no checkpoint"):
        load_model_weights(tmp_path)
    save_steps(tmp_path)
    for step in (1, 2):
        spoil(publication.folder(tmp_path, step) / "table.json", "truncated")
    with pytest.raises(UserError, match=r"every checkpoint of .* is damaged"):
        load_model_weights(tmp_path)


def test_all_tensors_are_read_without_a_prefix(tmp_path: Path) -> None:
    tensors = read_tensors(
        read_contents(save(tmp_path, {"a.b": torch.tensor([1, 2]), "c": torch.tensor(1.5)}))
    )
    assert tensors["a.b"].tolist() == [1, 2]
    assert tensors["c"].item() == 1.5


def test_the_recorded_state_is_that_of_the_newest_readable_one(tmp_path: Path) -> None:
    assert recorded_state(tmp_path) is None
    save_steps(tmp_path)
    (publication.folder(tmp_path, 2) / "state.json").write_bytes(b"\xff")
    state = recorded_state(tmp_path)
    assert state is not None
    assert state.step == 1

"""Which checkpoint a run resumes from, and what is refused. Layouts are in ``test_reader.py``."""

from pathlib import Path

import pytest
import torch

from jobctl.jobs.core.errors import UserError
from jobctl.trainer.checkpoint.contents import read_contents
from tests.trainer.checkpoint.saving import checkpointer, save, spoil


def test_tensors_that_the_run_does_not_have_are_refused_in_words(tmp_path: Path) -> None:
    save(tmp_path, {"model.w": torch.zeros(3, 2)})
    other = checkpointer(tmp_path, {"model.w": torch.zeros(3, 2), "model.v": torch.zeros(1)})
    with pytest.raises(UserError, match=r"has no model\.v \(and 0 more"):
        other.resume(lambda state: None)
    other = checkpointer(tmp_path, {"model.w": torch.zeros(2, 3)})
    with pytest.raises(UserError, match=r"model\.w has shape \[3, 2\], this run's has \[2, 3\]"):
        other.resume(lambda state: None)


def test_guards_that_a_checkpoint_does_not_have_stay_new_after_a_damaged_one(tmp_path: Path) -> None:
    save(tmp_path, {"model.w": torch.ones(2)}, step=1)
    damaged = save(tmp_path, {"guard.losses": torch.full((2,), 5.0), "model.w": torch.zeros(2)}, step=2)
    segment = read_contents(damaged).table.tensors["model.w"].segments[0]
    content = bytearray((damaged / segment.file).read_bytes())
    content[segment.begin] ^= 1
    (damaged / segment.file).write_bytes(content)

    live = {"guard.losses": torch.full((2,), 7.0), "model.w": torch.zeros(2)}
    resumed = checkpointer(tmp_path, live).resume(lambda state: None)

    assert resumed is not None
    assert resumed.step == 1
    assert live["guard.losses"].tolist() == [7, 7]
    assert live["model.w"].tolist() == [1, 1]
    assert (tmp_path / "checkpoints/damaged-step-2").is_dir()


def test_an_evaluation_sets_nothing_aside(tmp_path: Path) -> None:
    damaged = save(tmp_path, {"model.w": torch.ones(2)})
    spoil(damaged / "table.json", "absent")
    assert (
        checkpointer(tmp_path, {"model.w": torch.ones(2)}).resume(lambda state: None, set_aside=False) is None
    )
    assert damaged.is_dir()


def test_a_refusal_is_no_damage_and_sets_nothing_aside(tmp_path: Path) -> None:
    def refuse(state: object) -> None:
        raise UserError("of another model")

    folder = save(tmp_path, {"model.w": torch.ones(2)})
    with pytest.raises(UserError, match="of another model"):
        checkpointer(tmp_path, {"model.w": torch.zeros(2)}).resume(refuse)
    assert folder.is_dir()


def test_without_a_checkpoint_there_is_nothing_to_resume(tmp_path: Path) -> None:
    assert checkpointer(tmp_path, {"model.w": torch.ones(2)}).resume(lambda state: None) is None

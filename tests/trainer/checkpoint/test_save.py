from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from jobctl.trainer.checkpoint import save as saving
from jobctl.trainer.checkpoint.integrity import content_sum, read_checksums, size_problems
from jobctl.trainer.checkpoint.plan import Rows
from jobctl.trainer.checkpoint.save import (
    Report,
    Save,
    Written,
    describe,
    entries_of,
    select,
    streams,
    write_small_files,
)
from jobctl.trainer.checkpoint.table import Segment, Table, problems_of
from tests.trainer.checkpoint.saving import state


def test_a_report_says_what_was_saved_and_what_it_cost(tmp_path: Path) -> None:
    report = Report(
        step=4,
        path=tmp_path,
        holds="everything",
        bytes=22_000_000_000,
        pause_seconds=0.41,
        waited_seconds=0.0,
        write_seconds=11.0,
    )
    assert str(report) == (
        f"checkpoint of step 4 is in {tmp_path}: training paused 410 ms, "
        "durable after 11.0 s (22.00 GB, 2.00 GB/s)"
    )
    assert report.record() == {
        "kind": "checkpoint",
        "iter": 4,
        "path": str(tmp_path),
        "holds": "everything",
        "checkpoint_pause_ms": 410.0,
        "checkpoint_wait_ms": 0.0,
        "write_seconds": 11.0,
        "bytes": 22_000_000_000,
    }


def test_a_small_checkpoint_has_an_amount_and_a_rate(tmp_path: Path) -> None:
    report = Report(4, tmp_path, "everything", 1_200_000, 0.0, 0.0, 2.0)
    assert str(report).endswith("durable after 2.0 s (1.2 MB, 600 kB/s)")


def test_weights_alone_are_said_to_be_that(tmp_path: Path) -> None:
    report = Report(4, tmp_path, "weights", 10, 0.0, 0.0, 0.0)
    assert str(report).startswith(f"best weights of step 4 is in {tmp_path}")


def test_a_checkpoint_holds_everything_or_the_weights() -> None:
    tensors = {
        "model.w": torch.zeros(2, 3),
        "optimizer.w.step": torch.tensor(1.0),
        "guard.losses": torch.ones(4),
    }
    assert select(tensors, "everything") == tensors
    assert select(tensors, "weights").keys() == {"model.w"}
    assert entries_of(tensors)["model.w"].shape == (2, 3)
    assert entries_of(tensors)["optimizer.w.step"].dtype == "F32"


@pytest.mark.parametrize(("ranks", "expected"), [("1", 8), ("2", 8), ("4", 4), ("8", 2), ("64", 1)])
def test_the_ranks_of_a_node_share_its_streams(
    monkeypatch: pytest.MonkeyPatch, ranks: str, expected: int
) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", ranks)
    assert streams() == expected


def test_a_failure_is_said_by_what_it_came_from() -> None:
    failure = RuntimeError("a worker failed")
    failure.__cause__ = OSError(28, "No space left on device")
    assert describe(failure) == "OSError: [Errno 28] No space left on device"
    assert describe(ValueError("x")) == "ValueError: x"


def test_a_failure_without_an_error_of_the_system_is_said_by_the_first_of_its_chain() -> None:
    first = KeyError("first")
    second = ValueError("second")
    second.__context__ = first
    third = RuntimeError("third")
    third.__cause__ = second
    assert describe(third) == "KeyError: 'first'"


def test_an_error_of_the_system_is_said_though_it_has_a_cause_of_its_own() -> None:
    refusal = PermissionError(13, "Permission denied")
    refusal.__context__ = KeyError("a lookup that was tried before")
    assert describe(refusal) == "PermissionError: [Errno 13] Permission denied"


WEIGHT = Segment("rank-00000-00.safetensors", 8, 32, (0, 0), (2, 3), "ab")
TAIL = Segment("rank-00001-00.safetensors", 8, 20, (2, 0), (1, 3), "cd")
STEP = Segment("rank-00001-00.safetensors", 20, 24, (), (), "ef")
WRITTEN: Written = [("model.w", TAIL), ("optimizer.step", STEP), ("model.w", WEIGHT)]


@pytest.fixture
def begun(tmp_path: Path) -> Save:
    """A save whose ranks have written their data files."""
    tensors = {"model.w": torch.zeros(3, 3), "optimizer.step": torch.tensor(1.0)}
    share = [Rows("model.w", torch.float32, (3, 3), 0, 3)]
    snapshot: Any = None
    save = Save(
        state=state(step=7),
        holds="everything",
        best=False,
        final=tmp_path / "step-7",
        entries=entries_of(tensors),
        share=share,
        snapshot=snapshot,
        begun=0.0,
    )
    save.temporary.mkdir()
    (save.temporary / WEIGHT.file).write_bytes(bytes(32))
    (save.temporary / TAIL.file).write_bytes(bytes(24))
    return save


def test_the_table_has_the_segments_of_all_ranks_at_their_tensors(begun: Save) -> None:
    write_small_files(begun, WRITTEN)
    table = msgspec.json.decode((begun.temporary / "table.json").read_bytes(), type=Table)
    assert table.tensors["model.w"].segments == (TAIL, WEIGHT)
    assert table.tensors["optimizer.step"].segments == (STEP,)
    assert problems_of(table, {WEIGHT.file: 32, TAIL.file: 24}) == []


def test_the_checksums_tell_of_every_file_beside_them(begun: Save) -> None:
    write_small_files(begun, WRITTEN)
    files = read_checksums(begun.temporary).files
    names = {path.name for path in begun.temporary.iterdir()}
    assert files.keys() == names - {"checksums.json"}
    assert size_problems(begun.temporary, [(name, record.size) for name, record in files.items()]) == []
    for name in ("state.json", "table.json"):
        assert files[name].xxh3_128 == content_sum((begun.temporary / name).read_bytes())


def test_the_checksums_come_last_so_that_a_kill_leaves_nothing_that_looks_whole(
    begun: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: list[str] = []
    monkeypatch.setattr(saving, "write_whole", lambda path, data: names.append(path.name))
    write_small_files(begun, WRITTEN)
    assert names[-1] == "checksums.json"
    assert sorted(names[:-1]) == ["state.json", "table.json"]


def test_a_data_file_that_is_gone_is_an_error_and_not_a_checkpoint(begun: Save) -> None:
    (begun.temporary / TAIL.file).unlink()
    with pytest.raises(FileNotFoundError):
        write_small_files(begun, WRITTEN)
    assert not (begun.temporary / "checksums.json").exists()

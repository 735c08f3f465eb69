from pathlib import Path

import pytest
import torch

from jobctl.trainer.checkpoint.save import Report, describe, entries_of, select, streams


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

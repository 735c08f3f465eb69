"""A snapshot keeps the values of its moment, in memory that all snapshots share, or says that it does not."""

import logging
from pathlib import Path

import pytest
import torch

from jobctl.trainer import host_memory as arena
from jobctl.trainer.checkpoint.plan import Rows, share_of_rank
from jobctl.trainer.checkpoint.staging import KeptSnapshot, LiveSnapshot, Snapshot, Staging, bytes_needed
from jobctl.trainer.host_memory import PinningRefused

CPU = torch.device("cpu")


def tensors() -> dict[str, torch.Tensor]:
    return {
        "w": torch.arange(30.0).reshape(10, 3),
        "flag": torch.tensor([True, False]),
        "turned": torch.arange(6.0).reshape(2, 3).t(),
        "step": torch.tensor(4.0),
    }


def content(snapshot: Snapshot, share: list[Rows]) -> dict[str, bytes]:
    return {rows.name: b"".join(bytes(piece) for piece in snapshot.source(rows)) for rows in share}


def expected() -> dict[str, bytes]:
    return {
        name: t.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() for name, t in tensors().items()
    }


def staging(share: list[Rows], budget: int | None = None) -> Staging:
    needed = bytes_needed(share)
    return Staging(CPU, needed, needed if budget is None else budget)


def test_a_kept_snapshot_does_not_change_with_the_live_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arena, "BLOCK_BYTES", 64)  # tensors cross blocks
    live = tensors()
    share = share_of_rank(live, 0, 1)
    snapshot = staging(share).snapshot(live, share)
    for tensor in live.values():
        tensor.zero_()

    assert not snapshot.live
    assert content(snapshot, share) == expected()


def test_all_snapshots_take_the_same_memory() -> None:
    live = tensors()
    share = share_of_rank(live, 0, 1)
    memory = staging(share)

    first = memory.snapshot(live, share)
    live["w"].add_(1)
    second = memory.snapshot(live, share)

    assert isinstance(first, KeptSnapshot)
    assert isinstance(second, KeptSnapshot)
    assert first.arena is second.arena
    assert content(first, share) == content(second, share)
    assert content(second, share) != expected()


def test_a_part_of_the_share_fits_too() -> None:
    live = tensors()
    share = share_of_rank(live, 0, 1)
    memory = staging(share)
    few = share_of_rank({"step": live["step"]}, 0, 1)
    assert content(memory.snapshot(live, few), few) == {"step": expected()["step"]}


def test_too_little_memory_means_chunks_and_says_so() -> None:
    live = tensors()
    share = share_of_rank(live, 0, 1)
    memory = staging(share, budget=10)

    snapshot = memory.snapshot(live, share)

    assert isinstance(snapshot, LiveSnapshot)
    assert snapshot.live
    assert content(snapshot, share) == expected()
    assert "goes in chunks, and training waits for it" in memory.describe()
    assert "chunks" not in staging(share).describe()


def test_what_a_save_copies_has_an_amount_however_small() -> None:
    assert Staging(CPU, 39_800_000, 10**9).describe() == (
        "a save copies 39.8 MB a rank into host memory that is kept"
    )
    assert (
        Staging(CPU, 39_800_000, 2_000)
        .describe()
        .endswith("a copy takes 39.8 MB a rank, the host has 2 kB for it")
    )


def test_chunks_are_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobctl.trainer.checkpoint.staging.PIECE_BYTES", 16)
    live = tensors()
    share = share_of_rank(live, 0, 1)
    snapshot = staging(share, budget=0).snapshot(live, share)
    assert {len(piece) for rows in share for piece in snapshot.source(rows)} == {16, 8, 2, 4}
    assert content(snapshot, share) == expected()


def test_memory_that_the_driver_refuses_means_chunks_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    def refuse(self: arena.Arena) -> None:
        raise PinningRefused("cudaHostRegister answered 2")

    monkeypatch.setattr(arena.Arena, "reserve", refuse)
    live = tensors()
    share = share_of_rank(live, 0, 1)
    with caplog.at_level(logging.WARNING):
        snapshot = staging(share).snapshot(live, share)

    assert snapshot.live
    assert content(snapshot, share) == expected()
    assert "cannot be pinned (cudaHostRegister answered 2; ulimit -l is" in caplog.text

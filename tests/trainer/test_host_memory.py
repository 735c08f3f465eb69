from typing import Any

import pytest
import torch

from jobctl.trainer import host_memory as arena
from jobctl.trainer.host_memory import Arena, PinningRefused, aligned, pin_all, unpin_all


def test_parts_are_the_bytes_in_order_and_none_crosses_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arena, "BLOCK_BYTES", 64)
    memory = Arena(200, torch.device("cpu"))
    memory.reserve()
    for index, part in enumerate(memory.parts(0, 200)):
        part.fill_(index)

    assert [len(part) for part in memory.parts(0, 200)] == [64, 64, 64, 8]
    assert torch.cat(list(memory.parts(60, 70))).tolist() == [0] * 4 + [1] * 64 + [2] * 2
    assert list(memory.parts(64, 0)) == []


def test_nothing_to_keep_needs_no_memory() -> None:
    memory = Arena(0, torch.device("cpu"))
    memory.reserve()
    assert memory.blocks == []


class Driver:
    """Pins ``most`` blocks."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.pinned: list[int] = []

    def cudaHostRegister(self, address: int, size: int, flags: int) -> int:
        if len(self.pinned) == self.most:
            return 2
        self.pinned.append(address)
        return 0

    def cudaHostUnregister(self, address: int) -> int:
        self.pinned.remove(address)
        return 0


@pytest.mark.parametrize("most", [0, 2])
def test_pinning_is_all_or_nothing(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    driver: Any = Driver(most)
    monkeypatch.setattr(torch.cuda, "cudart", lambda: driver)
    blocks = [torch.ones(8, dtype=torch.uint8) for _ in range(3)]
    with pytest.raises(PinningRefused, match=f"answered 2 after {most} of 3 blocks"):
        pin_all(blocks)
    assert driver.pinned == []


def test_what_was_pinned_is_unpinned(monkeypatch: pytest.MonkeyPatch) -> None:
    driver: Any = Driver(3)
    monkeypatch.setattr(torch.cuda, "cudart", lambda: driver)
    blocks = [torch.ones(8, dtype=torch.uint8) for _ in range(3)]
    pin_all(blocks)
    assert driver.pinned == [block.data_ptr() for block in blocks]
    unpin_all(blocks)
    assert driver.pinned == []


def test_alignment_rounds_up() -> None:
    assert [aligned(count) for count in (0, 1, 64, 65)] == [0, 64, 64, 128]

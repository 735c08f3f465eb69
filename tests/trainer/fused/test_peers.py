"""Memory that GPUs read from each other: used by all ranks of a machine or by none."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch

from jobctl.trainer.distributed import World
from jobctl.trainer.fused import peers
from jobctl.trainer.fused.peers import peer_memory

GPU = torch.device("cuda", 0)


class Ranks(World):
    """Two ranks, of which the other one answers ``other``."""

    other = False

    def any(self, flag: bool) -> bool:
        return flag or self.other


def world(device: torch.device = GPU, other: bool = False) -> World:
    ranks = Ranks(rank=0, size=2, device=device)
    object.__setattr__(ranks, "other", other)
    return ranks


@pytest.fixture(autouse=True)
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "can_device_access_peer", lambda *_: True)
    monkeypatch.setattr(peers, "PeerMemory", lambda *_: "memory")


def test_gpus_of_one_machine_read_from_each_other() -> None:
    assert peer_memory(8, torch.bfloat16, world()) == "memory"


def test_ranks_without_gpus_have_none() -> None:
    assert peer_memory(8, torch.bfloat16, world(torch.device("cpu"))) is None


@pytest.mark.parametrize("local_size", ["1", None])
def test_ranks_of_several_machines_have_none(monkeypatch: pytest.MonkeyPatch, local_size: str | None) -> None:
    monkeypatch.delenv("LOCAL_WORLD_SIZE")
    if local_size:
        monkeypatch.setenv("LOCAL_WORLD_SIZE", local_size)
    assert peer_memory(8, torch.bfloat16, world()) is None


def test_one_pair_of_gpus_without_a_link_is_enough_to_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "can_device_access_peer", lambda *_: False)
    assert peer_memory(8, torch.bfloat16, world()) is None


def test_a_rank_that_could_goes_with_one_that_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or it would wait for the other one, which never comes."""
    monkeypatch.setattr(peers, "PeerMemory", lambda *_: pytest.fail("it met nobody"))
    assert peer_memory(8, torch.bfloat16, world(other=True)) is None


def test_a_torch_whose_interface_is_another_is_named_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def changed(*_: Any) -> None:
        raise AttributeError("no attribute 'rendezvous'\nand a page of advice")

    monkeypatch.setattr(peers, "PeerMemory", changed)
    with caplog.at_level(logging.WARNING):
        assert peer_memory(8, torch.bfloat16, world()) is None
    assert "so NCCL gathers weights: no attribute 'rendezvous'" in caplog.text
    assert "advice" not in caplog.text

from __future__ import annotations

import pytest
import torch

from jobctl.jobs.core.errors import UserError
from jobctl.trainer.fused import host_stash
from jobctl.trainer.fused.host_stash import HostStash
from jobctl.trainer.host_memory import Arena, PinningRefused

CPU = torch.device("cpu")


def test_a_tensor_comes_back_with_its_shape_and_its_bits() -> None:
    stash = HostStash([0, 3], CPU)
    tensors = {block: torch.randn(2, 5, 7).bfloat16() for block in (0, 3)}
    stash.begin()
    for block, tensor in tensors.items():
        stash.leave(block, tensor)

    stash.settle()
    before = {block: tensor.clone() for block, tensor in tensors.items()}
    for tensor in tensors.values():
        tensor.zero_()  # the memory on the GPU serves others meanwhile

    stash.fetch(3)
    assert torch.equal(stash.take(3), before[3])
    assert torch.equal(stash.take(0), before[0]), "also without a call of fetch"


def test_a_tensor_that_left_is_not_part_of_the_graph() -> None:
    stash = HostStash([0], CPU)
    product = torch.ones(3, requires_grad=True) * 2
    stash.leave(0, product)
    assert not stash.take(0).requires_grad


def test_each_step_takes_the_same_memory_and_larger_tensors_take_more() -> None:
    stash = HostStash([0, 1], CPU)
    places = []
    for size in (100, 100, 60, 200):
        stash.begin()
        for block in (0, 1):
            stash.leave(block, torch.full((size,), float(block)))
        assert [stash.take(block).sum().item() for block in (0, 1)] == [0.0, size]
        places.append(stash._arena)

    assert places[0] is places[1] is places[2]
    assert places[3] is not places[0]


def test_a_pass_that_ended_in_the_middle_leaves_nothing_behind() -> None:
    stash = HostStash([0, 1], CPU)
    stash.leave(0, torch.ones(4))
    stash.leave(1, torch.ones(4))
    stash.fetch(0)
    stash.begin()
    with pytest.raises(KeyError):
        stash.take(1)


def test_a_host_that_pins_no_memory_is_said_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(arena: Arena) -> None:
        raise PinningRefused("cudaHostRegister answered 2 after 0 of 1 blocks")

    monkeypatch.setattr(host_stash.Arena, "reserve", refuse)
    with pytest.raises(UserError, match="the host does not pin") as caught:
        HostStash([0], CPU).leave(0, torch.ones(4))

    assert "selective" in caught.value.hint

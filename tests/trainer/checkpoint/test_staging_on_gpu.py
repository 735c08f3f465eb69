"""On a GPU: copies into pinned memory, on a stream of their own, and loads straight to the GPU."""

from pathlib import Path

import pytest
import torch

from jobctl.trainer import host_memory as arena
from jobctl.trainer.checkpoint.plan import share_of_rank
from jobctl.trainer.checkpoint.staging import KeptSnapshot, Staging, bytes_needed
from jobctl.trainer.distributed import World
from tests.trainer.checkpoint.saving import checkpointer, state

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA GPU")


def tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator("cuda").manual_seed(1)
    return {
        "model.w": torch.randn(1000, 700, generator=generator, device="cuda"),
        "model.turned": torch.randn(30, 70, generator=generator, device="cuda").t(),
        "model.half": torch.randn(999, generator=generator, device="cuda").bfloat16(),
        "optimizer.step": torch.tensor(3.0, device="cuda"),
        "optimizer.on_the_host": torch.arange(5),
    }


@pytest.mark.parametrize("budget", [None, 0], ids=["pinned", "in chunks"])
def test_what_is_saved_comes_back_after_the_live_tensors_have_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, budget: int | None
) -> None:
    monkeypatch.setattr(arena, "BLOCK_BYTES", 1 << 20)  # tensors cross blocks
    live = tensors()
    world = World(rank=0, size=1, device=torch.device("cuda", 0))
    checkpoints = checkpointer(tmp_path, live, world, memory_budget=budget)
    for step in (1, 2):
        checkpoints.save(state(step))
        for tensor in live.values():
            tensor.zero_()
        assert checkpoints.wait()
        assert checkpoints.resume(lambda state: None) is not None
        assert all(torch.equal(live[name], tensor) for name, tensor in tensors().items())


def test_the_memory_is_pinned_and_the_copy_waits_for_what_the_gpu_has_still_to_do() -> None:
    live = {"model.w": torch.zeros(4_000_000, device="cuda")}
    share = share_of_rank(live, 0, 1)
    needed = bytes_needed(share)
    staging = Staging(torch.device("cuda", 0), needed, needed)

    torch.cuda._sleep(200_000_000)
    live["model.w"].fill_(7)  # queued, not done
    snapshot = staging.snapshot(live, share)
    live["model.w"].zero_()

    assert isinstance(snapshot, KeptSnapshot)
    assert all(block.is_pinned() for block in snapshot.arena.blocks)
    copied = torch.cat(list(snapshot.arena.parts(0, share[0].bytes))).view(torch.float32)
    assert copied.eq(7).all()

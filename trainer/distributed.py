"""Ranks, and how weights, gradients and optimiser state lie over them. The models know nothing of it."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import inspect
import os
from collections.abc import Iterator
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from jobctl.jobs.catalog.schema import TrainConfig
from jobctl.jobs.core.errors import UserError

Sharding = Literal["none", "ddp", "zero1", "fsdp"]
EXPLAINED = {
    "none": "one process holds everything",
    "ddp": "every rank holds weights, gradients and optimiser state; gradients are averaged once a step",
    "zero1": "optimiser state is sharded; weights are gathered once a step, gradients reduce-scattered once",
    "fsdp": "weights and optimiser state are sharded; weights are gathered by blocks, gradients reduced once a step",
}
SHARDS_ON_CPU = hasattr(FSDPModule, "set_force_sum_reduction_for_comms")
"""Whether this torch's ``fully_shard`` is right on a CPU. Older ones get a sum, not a mean, from gloo."""
TORCH_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


@dataclasses.dataclass(frozen=True)
class World:
    """This process among its equals."""

    rank: int
    size: int
    device: torch.device
    control: dist.ProcessGroup | None = None
    """Ranks talk here about stopping: on the CPU, so that the GPU's queue is never waited for."""
    saving: dist.ProcessGroup | None = None
    """The checkpoint writer's thread talks here, so that its words never mix with the training's."""

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def any(self, flag: bool) -> bool:
        """Return True on every rank if it is True on one."""
        if self.control is None:
            return flag

        # Over gloo and the CPU's memory: NCCL would queue this behind the kernels of the step.
        vote = torch.tensor([int(flag)])
        dist.all_reduce(vote, op=dist.ReduceOp.MAX, group=self.control)
        return bool(vote.item())

    def from_main(self, value: Any) -> Any:
        """Rank 0's value on every rank."""
        return self.gathered(value)[0]

    def gathered(self, value: Any, group: dist.ProcessGroup | None = None) -> list[Any]:
        """Each rank's value, by rank."""
        if self.control is None:
            return [value]

        values: list[Any] = [None] * self.size
        # Pickles of other ranks are safe: all ranks run the same program of the same user.
        dist.all_gather_object(values, value, group=group or self.control)
        return values

    def barrier(self) -> None:
        self.any(False)


def choose_device(wanted: str) -> torch.device:
    """Return the device of this process. Raises UserError if ``wanted`` is missing."""
    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise UserError("--device=cuda, but this machine has no usable CUDA GPU", hint="nvidia-smi says why")

    if wanted == "cpu" or not available:
        return torch.device("cpu")

    # torchrun counts the ranks of this node, and CUDA the GPUs that this job may use.
    index = int(os.environ.get("LOCAL_RANK", "0"))
    if index >= torch.cuda.device_count():
        raise UserError(
            f"local rank {index} has no GPU: this node shows {torch.cuda.device_count()}",
            hint="lower --nproc_per_node, or ask the scheduler for more GPUs",
        )

    return torch.device("cuda", index)


def join(wanted_device: str, timeout_seconds: int) -> World:
    """Join the other ranks that torchrun's environment names. Work alone if it names none."""
    device = choose_device(wanted_device)
    if device.type == "cuda":
        # NCCL takes the current device, so it is chosen before the ranks meet.
        torch.cuda.set_device(device)

    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return World(rank=0, size=1, device=device)

    timeout = datetime.timedelta(seconds=timeout_seconds)
    # Tensors of the host go over gloo, and those of a GPU over NCCL.
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=timeout)

    # Every rank makes both groups, and in this order: making a group is a collective.
    return World(
        rank=dist.get_rank(),
        size=size,
        device=device,
        control=dist.new_group(backend="gloo", timeout=timeout, group_desc="control"),
        saving=dist.new_group(backend="gloo", timeout=timeout, group_desc="saving"),
    )


_KEPT_GROUPS: list[dist.ProcessGroup] = []
"""Groups that this process has left."""


def leave(world: World) -> None:
    """Wait for all ranks, then leave the group. The process must end by ``os._exit``."""
    if world.control is None:
        return

    world.barrier()
    # Before torch 2.8 a gloo group that is freed waits for its threads and keeps the interpreter's lock, which they may
    # wait for (pytorch/pytorch#154976). So none is freed.
    _KEPT_GROUPS.extend(dist.distributed_c10d._world.pg_map)
    dist.destroy_process_group()


def choose_sharding(train: TrainConfig, world_size: int) -> Sharding:
    """Return the sharding of the settings, but none for a single process: it has nobody to share with."""
    if world_size == 1:
        return "none"
    return "fsdp" if train.use_fsdp else "zero1" if train.use_zero1 else "ddp"


def distribute(model: nn.Module, sharding: Sharding, world: World, dtype: torch.dtype) -> nn.Module:
    """Lay ``model`` (whole, the same on each rank) over the ranks.

    ZeRO-1 and FSDP are both ``fully_shard``, which keeps float32 shards and reduces gradients in float32; they
    differ in how long gathered weights stay (ZeRO, Rajbhandari et al. 2020, section 5). Raises UserError where
    this torch cannot shard.
    """
    if sharding == "none":
        return model

    if sharding == "ddp":
        devices = [world.device.index] if world.device.type == "cuda" else None
        # Gradients that are views of the buckets need no memory of their own.
        return DistributedDataParallel(
            model, device_ids=devices, gradient_as_bucket_view=True, **buffers_stay()
        )

    if world.device.type == "cpu" and not SHARDS_ON_CPU:
        raise UserError(
            f"--use_zero1 and --use_fsdp work on GPUs only in torch {torch.__version__}",
            hint="remove them on a CPU, or use torch 2.8 or later",
        )

    mesh = init_device_mesh(world.device.type, (world.size,))
    # Sums of many ranks in bfloat16 would lose small gradients, so gradients are reduced in float32.
    policy = MixedPrecisionPolicy(
        param_dtype=None if dtype is torch.float32 else dtype, reduce_dtype=torch.float32
    )
    reshard = sharding == "fsdp"

    # The blocks first: the root then takes only what no block has taken.
    for block in model.blocks:  # type: ignore[union-attr]
        fully_shard(block, mesh=mesh, mp_policy=policy, reshard_after_forward=reshard)

    # Backward needs the root's weights at once, so they stay gathered.
    fully_shard(model, mesh=mesh, mp_policy=policy, reshard_after_forward=False)
    if world.device.type == "cpu":
        for module in (*model.blocks, model):  # type: ignore[misc]
            module.set_force_sum_reduction_for_comms(True)  # and divides after it

    return model


def buffers_stay() -> dict[str, Any]:
    """DDP's option not to copy rank 0's buffers in every forward, by the name this torch has for it."""
    known = inspect.signature(DistributedDataParallel.__init__).parameters
    return {"forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers": False}


@contextlib.contextmanager
def gradient_sync(model: nn.Module, sharding: Sharding, last: bool) -> Iterator[None]:
    """Gradients stay on their rank until the step's last micro-step.

    With ZeRO-1 gathered weights stay as well.
    """
    # DDP reduces in each backward pass unless it is told not to.
    if isinstance(model, DistributedDataParallel) and not last:
        with model.no_sync():
            yield

        return

    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(last)
        # With ZeRO-1 the weights stay the same until the update, so they are gathered once a step.
        model.set_reshard_after_backward(last or sharding == "fsdp")

    yield


def autocast(
    sharding: Sharding, device: torch.device, dtype: torch.dtype
) -> contextlib.AbstractContextManager[Any]:
    """Use lower-precision products, unless a ``fully_shard`` policy already does."""
    enabled = dtype is not torch.float32 and sharding in ("none", "ddp")
    # torch looks at the type even if autocast is off, and float32 is none that it accepts.
    return torch.autocast(device.type, dtype=dtype if enabled else torch.bfloat16, enabled=enabled)


def local(tensor: torch.Tensor) -> torch.Tensor:
    """This rank's part of a tensor, sharing its memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def unwrapped(model: nn.Module) -> nn.Module:
    """The model of the model file."""
    return model.module if isinstance(model, DistributedDataParallel) else model


def named_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters by the name they have in the model file, however it is wrapped."""
    # torch.compile adds this to the names.
    return {name.replace("_orig_mod.", ""): p for name, p in unwrapped(model).named_parameters()}


def bytes_of(tensors: Iterator[torch.Tensor]) -> int:
    """Bytes that the tensors take on this rank."""
    return sum(local(t).numel() * t.element_size() for t in tensors)


def reshard(model: nn.Module) -> None:
    """Give back weights that a forward pass without a backward pass has left gathered."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()

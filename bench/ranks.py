"""One rank of the multi-GPU benchmark: torchrun starts ``-m bench.ranks JOBS``, a JSON list, done one after another.

Ours is the trainer itself, put together by ``assemble`` from the catalogue's settings of a tier; torchtitan is its own
model under its own ``apply_fsdp``. In the ways that end in "none" every rank trains alone, all at the same time. Rank 0
prints a line of JSON for each job.
"""

from __future__ import annotations

import dataclasses
import gc
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import torch
import torch.distributed as dist
from torch.profiler import ProfilerActivity, profile

from bench import entrants
from bench.intervals import exposed
from bench.training import prepare
from jobctl.jobs.catalog.loader import load_model
from jobctl.jobs.spec.job_spec import TrainSpec
from jobctl.jobs.spec.resolution import Choices, resolve
from jobctl.trainer import distributed as parallel
from jobctl.trainer.distributed import World
from jobctl.trainer.training import graphs

BLOCK = 2048
WAYS: dict[str, dict[str, Any]] = {
    "none": {}, "ddp": {}, "zero1": {"use_zero1": True}, "fsdp": {"use_fsdp": True},
}  # fmt: skip


@dataclasses.dataclass
class Subject:
    """Something that takes steps: ``step`` queues one; its loss and, of ours, the gradient's norm, on the device."""

    step: Callable[[], tuple[torch.Tensor, ...]]
    states: Callable[[], Iterator[torch.Tensor]]
    """The tensors of the optimiser's state."""
    note: str


def flags(job: dict[str, Any], folder: str) -> list[str]:
    """The trainer's command line: the catalogue's settings of the job's model and tier, and the job's batch."""
    spec = resolve(Choices(model=job["model"], hardware="h100", tier=job["tier"]), version="bench").spec
    assert isinstance(spec, TrainSpec)
    settings = msgspec.to_builtins(spec.train) | WAYS[job["way"]]
    settings |= {"batch_size": job["batch"], "gradient_accumulation_steps": job["accumulation"]}
    settings |= {"max_iters": 10_000, "eval_interval": 10_000} | job.get("settings", {})
    return [f"--model={job['model']}", f"--dataset={job['data']}", f"--run_dir={folder}"] + [
        f"--{name}={value}" for name, value in settings.items()
    ]


def ours(job: dict[str, Any], world: World, folder: str) -> Subject:
    training = prepare(flags(job, folder), world)
    run = training.run
    batches = training.batches()

    def step() -> tuple[torch.Tensor, ...]:
        training.take_step(batches)
        result = training.unlogged[-1][3]
        return result.loss, result.grad_norm

    def states() -> Iterator[torch.Tensor]:
        return iter(run.stepper.optimizer.state().values())

    return Subject(step, states, f"{run.attention.name}; {run.kernels.words}")


def torchtitan(job: dict[str, Any], world: World, folder: str) -> Subject:
    """Its FSDP2, which reduces the gradient of every micro-step; alone on a GPU, autocast as ``entrants`` has it."""
    peer = entrants.torchtitan(load_model(job["model"]).config, world.device, "float32")
    if world.size > 1:
        from torch.distributed.device_mesh import init_device_mesh
        from torchtitan.models.llama3.infra.parallelize import apply_fsdp

        mesh = init_device_mesh("cuda", (world.size,))
        apply_fsdp(peer.model, mesh, torch.bfloat16, torch.float32, pp_enabled=False)
        peer = entrants.Peer(peer.model, peer.loss, "float32", peer.note)
        peer.autocast = False
    source = shuffled(Path(job["data"]), job["batch"], world)

    def states() -> Iterator[torch.Tensor]:
        values = (value for state in peer.optimizer.state.values() for value in state.values())
        return (value for value in values if isinstance(value, torch.Tensor))

    return Subject(lambda: (peer.step(source, job["accumulation"]),), states, peer.note)


def shuffled(data: Path, batch: int, world: World) -> Iterator[torch.Tensor]:
    """This rank's micro-batches, int64 ``[batch, BLOCK + 1]`` in pinned memory."""
    from bench.measured import batches

    source = batches(data, batch, BLOCK)
    return itertools.islice(source, world.rank, None, world.size)


def measure(job: dict[str, Any], world: World) -> dict[str, Any]:
    """Milliseconds of whole steps, memory, the losses, and where a profiled step waits for communication."""
    torch.cuda.reset_peak_memory_stats()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        build = torchtitan if job["way"].startswith("torchtitan") else ours
        subject = build(job, world, folder)
        results = [subject.step() for _ in range(warm_steps(job["tier"]))]
        torch.cuda.synchronize()
        ready = time.perf_counter() - began
        marks = [torch.cuda.Event(enable_timing=True) for _ in range(job["steps"] + 1)]
        gc.collect()
        gc.disable()
        marks[0].record()
        for mark in marks[1:]:
            results.append(subject.step())
            mark.record()
        torch.cuda.synchronize()
        gc.enable()
        steps = [round(a.elapsed_time(b), 2) for a, b in itertools.pairwise(marks)]
        waits = profiled(subject.step) if job.get("profile") else {}
        return {
            "steps_ms": steps, "step_ms": statistics.median(steps), "ready_s": round(ready, 1),
            "peak_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2), "note": subject.note,
            "optimizer_bytes": parallel.bytes_of(subject.states()), **waits,
            "losses": [round(float(r[0]), 5) for r in results],
            "gradient_norms": [round(float(norm), 5) for _, *norms in results for norm in norms],
        }  # fmt: skip


def warm_steps(tier: int) -> int:
    """Steps that are not timed: they compile, allocate and, from tier 3 on, capture graphs."""
    return graphs.WARM_STEPS + (tier > 2)


def profiled(step: Callable[[], object]) -> dict[str, float]:
    """Milliseconds of communication in one step (NCCL's kernels, copies), and of it that beside which nothing runs."""
    with profile(activities=[ProfilerActivity.CUDA]) as trace:
        step()
        torch.cuda.synchronize()
    kernels = [e for e in trace.events() if e.device_type == torch.autograd.DeviceType.CUDA]
    spans = [(e.time_range.start, e.time_range.end, communicates(e.name)) for e in kernels]
    communication = [(a, b) for a, b, outside in spans if outside]
    alone = exposed(communication, [(a, b) for a, b, outside in spans if not outside])
    return {
        "communication_ms": round(sum(b - a for a, b in communication) / 1e3, 2),
        "exposed_communication_ms": round(alone / 1e3, 2),
    }


def communicates(kernel: str) -> bool:
    return "nccl" in kernel.lower() or kernel.startswith(("Memcpy PtoP", "Memcpy DtoD"))


def main() -> None:
    jobs = json.loads(Path(sys.argv[1]).read_text())
    deadline = float(sys.argv[2])
    torch._dynamo.config.automatic_dynamic_shapes = False
    world = parallel.join("cuda", 120)
    for job in jobs:
        if world.any(time.time() > deadline):
            break
        try:
            result = measure(job, World(0, 1, world.device) if job["way"].endswith("none") else world)
        except Exception as error:  # reported beside the others' results
            result = {"error": f"{type(error).__name__}: {error}"[:600]}
        result["ranks_ms"] = world.gathered(result.get("step_ms"))
        if None in result["ranks_ms"]:
            result.setdefault("error", f"a rank failed: {result.pop('ranks_ms')}")
        if world.is_main:
            facts = {"gpus": world.size, "torch": torch.__version__, "device": torch.cuda.get_device_name()}
            print(json.dumps(job | result | facts), flush=True)
        gc.collect()
        torch._dynamo.reset()
        torch.cuda.empty_cache()
    if world.size > 1:
        dist.barrier()
    sys.stdout.flush()
    os._exit(0)  # graphs that hold NCCL's kernels must not outlive their communicator


if __name__ == "__main__":
    main()

"""The ways to save and load that ``bench.saves`` compares, each over the same tensors and the same disk."""

from __future__ import annotations

import dataclasses
import os
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from jobctl.jobs.catalog.loader import load_model
from jobctl.jobs.catalog.schema import TrainConfig
from jobctl.trainer.checkpoint import publication
from jobctl.trainer.checkpoint.buffers import PIECE_BYTES
from jobctl.trainer.checkpoint.checkpointer import Checkpointer
from jobctl.trainer.checkpoint.plan import divide_into_files, share_of_rank
from jobctl.trainer.checkpoint.save import Report, streams
from jobctl.trainer.checkpoint.state import State
from jobctl.trainer.checkpoint.writer import begin_write_back, write_all
from jobctl.trainer.distributed import World
from jobctl.trainer.models.attention import ManualAttention
from jobctl.trainer.models.building import build_model

GB = 1e9


@dataclasses.dataclass
class Timed:
    """One save: seconds until training may go on, and until all is on the disk."""

    pause: float
    durable: float
    removed: float = 0.0
    """Until the copy before is removed as well, where the way does that."""


def model_tensors(model: str, gib: float, device: torch.device) -> dict[str, Tensor]:
    """Random float32 weights and two moments of a catalogue model, or of its first layers up to ``gib``."""
    with torch.device("meta"):
        parameters = dict(build_model(load_model(model).config, ManualAttention()).named_parameters())

    tensors: dict[str, Tensor] = {}
    total = 0
    for name, parameter in parameters.items():
        size = 3 * 4 * parameter.numel()
        if total + size > gib * 2**30:
            continue
        total += size
        for key in ("model.{}", "optimizer.{}.exp_avg", "optimizer.{}.exp_avg_sq"):
            tensors[key.format(name)] = torch.randn(parameter.shape, device=device)
        tensors[f"optimizer.{name}.step"] = torch.ones((), device=device)
    return tensors


def size_of(tensors: dict[str, Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors.values())


class Ours:
    """The trainer's own checkpoints, of one process."""

    def __init__(
        self, run: Path, tensors: dict[str, Tensor], device: torch.device, chunked: bool = False
    ) -> None:
        self.run = run
        self.reports: list[Report] = []
        world = World(rank=0, size=1, device=device)
        self.checkpoints = Checkpointer(
            run,
            world,
            lambda: tensors,
            keep_last=1,
            keep_every=0,
            memory_budget=0 if chunked else None,
        )
        self.checkpoints.on_saved = self.reports.append

        begun = time.perf_counter()
        self.checkpoints.claim()
        self.description = self.checkpoints.staging().describe()
        self.checkpoints.staging().wait()
        self.prepare_seconds = time.perf_counter() - begun

    def save(self, step: int) -> Timed:
        begun = time.perf_counter()
        self.checkpoints.save(state(step))
        pause = time.perf_counter() - begun
        if not self.checkpoints.wait():
            raise RuntimeError("the save failed; its warning says why")
        return Timed(pause, self.reports[-1].write_seconds, time.perf_counter() - begun)

    def load(self) -> float:
        """Seconds of a resume, all checksums included."""
        begun = time.perf_counter()
        if self.checkpoints.resume(lambda state: None) is None:
            raise RuntimeError("no checkpoint could be loaded")
        return time.perf_counter() - begun

    def files(self) -> list[Path]:
        return sorted(publication.folder(self.run, publication.steps(self.run)[-1]).glob("*.safetensors"))


def state(step: int) -> State:
    """Any state: it is a few kB beside the tensors."""
    return State(
        step=step,
        samples=step,
        name="bench",
        model=load_model("qwen3_smoke").config,
        train=TrainConfig(),
        sources=(),
        fingerprint="none",
        sample_order=2,
        tokenizer="none",
    )


# -- the disk


def file_sizes(tensors: dict[str, Tensor]) -> list[int]:
    """Sizes of the files that a checkpoint of these tensors has."""
    files = divide_into_files(share_of_rank(tensors, 0, 1), streams())
    return [sum(rows.bytes for rows in file) for file in files]


def write_raw(folder: Path, sizes: Sequence[int], hint: bool) -> float:
    """Seconds to write and fsync files of these sizes at once, from memory; ``hint``: begin to write back early."""
    folder.mkdir(parents=True)
    data = torch.randint(256, (PIECE_BYTES * 4,), dtype=torch.uint8).numpy().data

    def write(index: int) -> None:
        descriptor = os.open(folder / str(index), os.O_WRONLY | os.O_CREAT, 0o666)
        for position in range(0, sizes[index], PIECE_BYTES):
            begin = position % len(data)
            piece = data[begin : begin + min(PIECE_BYTES, sizes[index] - position)]
            write_all(descriptor, piece, position)
            if hint:
                begin_write_back(descriptor, position, len(piece))
        os.fsync(descriptor)
        os.close(descriptor)

    begun = time.perf_counter()
    with ThreadPoolExecutor(len(sizes)) as writers:
        list(writers.map(write, range(len(sizes))))
    seconds = time.perf_counter() - begun
    shutil.rmtree(folder)
    return seconds


def read_raw(files: Sequence[Path]) -> float:
    """Seconds to read the files at once into memory, and do nothing with it."""

    def read(path: Path) -> None:
        buffer = memoryview(bytearray(PIECE_BYTES))
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_SEQUENTIAL)
        while os.readv(descriptor, [buffer]):
            pass
        os.close(descriptor)

    begun = time.perf_counter()
    with ThreadPoolExecutor(len(files)) as readers:
        list(readers.map(read, files))
    return time.perf_counter() - begun


def forget(files: Sequence[Path]) -> None:
    """Drop the files from the page cache, so that the disk has to deliver them."""
    for path in files:
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


# -- torch's distributed checkpoint


def writer(folder: Path, threads: int) -> Any:
    from torch.distributed.checkpoint import FileSystemWriter

    return FileSystemWriter(folder, thread_count=threads, sync_files=True)


def dcp_save(folder: Path, tensors: dict[str, Tensor], threads: int) -> Timed:
    """``dcp.save``: training waits for all of it."""
    from torch.distributed import checkpoint as dcp

    begun = time.perf_counter()
    dcp.save(tensors, storage_writer=writer(folder, threads))
    seconds = time.perf_counter() - begun
    return Timed(seconds, seconds)


def dcp_async(folder: Path, tensors: dict[str, Tensor], threads: int, stager: Any = None) -> Timed:
    """``dcp.async_save``: to the return, or to the end of staging where that goes on in the background."""
    from torch.distributed import checkpoint as dcp

    begun = time.perf_counter()
    options = {} if stager is None else {"async_stager": stager}
    response = dcp.async_save(tensors, storage_writer=writer(folder, threads), **options)
    # With a stager of its own thread the tensors must not change before staging has ended.
    staging = getattr(response, "staging_completion", None)
    if staging is not None:
        staging.result()
    pause = time.perf_counter() - begun
    getattr(response, "upload_completion", response).result()
    return Timed(pause, time.perf_counter() - begun)


def pinned_stager(device: torch.device) -> tuple[Any, Callable[[], None]]:
    """torch's stager that keeps its memory, pinned on a GPU (torch 2.9 and later), and how to close it.

    Its own ``close`` does nothing: torch 2.11 calls it after each save, and the memory would not be kept.
    """
    from torch.distributed.checkpoint import staging

    on_gpu = device.type == "cuda"
    stager = staging.DefaultStager(
        staging.StagingOptions(
            use_pinned_memory=on_gpu,
            use_shared_memory=False,
            use_async_staging=on_gpu,
            use_non_blocking_copy=on_gpu,
        )
    )
    close = stager.close
    stager.close = lambda: None
    return stager, close


def repeated(folder: Path, times: int, save: Callable[[Path], Timed]) -> list[Timed]:
    """Save so many times, each into a folder of its own, which is removed afterwards."""
    results = []
    for index in range(times):
        results.append(save(folder / str(index)))
        shutil.rmtree(folder / str(index))
    return results

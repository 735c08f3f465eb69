"""Saving and loading a model-sized state beside torch's own ways: ``python -m bench.saves --folder DIR -o FILE``.

DIR is on the disk that is measured; it holds at most two copies of the state at a time. Measures what the disk takes
and gives with as many streams, our saves (first, later, in chunks) and resumes, and ``torch.distributed.checkpoint``.
Prints a table, writes JSON. What fails is reported, and the rest goes on.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import shutil
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from bench import save_entrants as entrants
from bench.document import save
from jobctl.jobs.core.errors import run_command

GB = 1e9
GIB_OF_QWEN3 = 20.5
"""Weights and two moments of qwen3_1.8b in float32."""

PARTS = ("disk, writing", "ours", "dcp.async_save, pinned", "dcp.async_save", "dcp.save", "ours, in chunks")


class Bench:
    """The parts, one after another, and what they found."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.device = torch.device(options.device)
        if self.device.type == "cuda" and self.device.index is None:
            self.device = torch.device("cuda", torch.cuda.current_device())
        self.deadline = time.monotonic() + 60 * options.minutes
        self.folder: Path = options.folder / "bench-saves"
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.tensors = entrants.model_tensors(options.model, options.gib, self.device)
        self.bytes = entrants.size_of(self.tensors)
        self.sizes = entrants.file_sizes(self.tensors)
        self.results: dict[str, dict[str, Any]] = {}

    def part(self, name: str, action: Callable[[], dict[str, Any]]) -> None:
        """Do one part, unless it is not asked for or there is no time; report it, or how it failed."""
        if self.options.only and name not in self.options.only:
            return
        if time.monotonic() > self.deadline:
            self.results[name] = {"error": "no time left"}
        else:
            os.sync()  # what another part has left to write is not this one's
            begun = time.perf_counter()
            try:
                self.results[name] = action() | {"part_seconds": round(time.perf_counter() - begun, 1)}
            except Exception as error:
                traceback.print_exc()
                self.results[name] = {"error": f"{type(error).__name__}: {error}"[:400]}

        print(f"{name:28s} {self.results[name]}", flush=True)
        save(
            self.options.output,
            torch=torch.__version__,
            device=name_of(self.device),
            cpus=os.cpu_count(),
            bytes=self.bytes,
            files=len(self.sizes),
            results=self.results,
        )

    def run(self) -> None:
        disk, ours_whole, pinned, plain, waiting, chunks = PARTS
        self.part(disk, self.disk_writing)

        ours = self.folder / "ours"
        self.part(ours_whole, lambda: self.ours(ours))
        shutil.rmtree(ours, ignore_errors=True)

        threads = len(self.sizes)
        saves = self.options.saves
        self.part(pinned, lambda: self.dcp_pinned(threads, saves))
        self.part(plain, lambda: self.dcp(saves, lambda f: entrants.dcp_async(f, self.tensors, threads)))
        self.part(waiting, lambda: self.dcp(1, lambda f: entrants.dcp_save(f, self.tensors, threads)))
        self.part(chunks, lambda: self.chunks(ours))
        shutil.rmtree(self.folder, ignore_errors=True)

    def disk_writing(self) -> dict[str, Any]:
        """The faster of two ways to write plain files of the same sizes."""
        seconds = {
            words: entrants.write_raw(self.folder / "raw", self.sizes, hint)
            for words, hint in (("plain", False), ("written back early", True))
        }
        return {"seconds": seconds, "gb_per_second": round(self.bytes / GB / min(seconds.values()), 3)}

    def ours(self, run: Path) -> dict[str, Any]:
        """Saves, then loads: from the disk beside a plain read of the same files, and from the page cache."""
        way = entrants.Ours(run, self.tensors, self.device)
        saves = [way.save(step) for step in range(1, self.options.saves + 1)]

        entrants.forget(way.files())
        raw = entrants.read_raw(way.files())
        entrants.forget(way.files())
        before = {name: tensor.double().sum().item() for name, tensor in list(self.tensors.items())[:8]}
        for tensor in self.tensors.values():
            tensor.zero_()
        cold = way.load()
        same = all(self.tensors[name].double().sum().item() == value for name, value in before.items())

        return figures(saves, self.bytes) | {
            "memory": way.description,
            "seconds_to_pin": round(way.prepare_seconds, 2),
            "read_raw_seconds": round(raw, 2),
            "load_seconds": round(cold, 2),
            "load_from_page_cache_seconds": round(way.load(), 2),
            "loaded_what_was_saved": same,
        }

    def chunks(self, run: Path) -> dict[str, Any]:
        """One save where the host has no memory for a copy."""
        way = entrants.Ours(run, self.tensors, self.device, chunked=True)
        return figures([way.save(1)], self.bytes) | {"memory": way.description}

    def dcp(self, times: int, way: Callable[[Path], entrants.Timed]) -> dict[str, Any]:
        join_alone(self.device)
        return figures(entrants.repeated(self.folder / "dcp", times, way), self.bytes)

    def dcp_pinned(self, threads: int, times: int) -> dict[str, Any]:
        stager, close = entrants.pinned_stager(self.device)
        try:
            return self.dcp(times, lambda f: entrants.dcp_async(f, self.tensors, threads, stager))
        finally:
            close()


def figures(saves: Sequence[entrants.Timed], count: int) -> dict[str, Any]:
    """Pause and time to durable of the first save and of the best of the others."""
    later = saves[1:] or saves
    durable = min(save.durable for save in later)
    return {
        "saves": [dataclasses.asdict(save) for save in saves],
        "pause_first": round(saves[0].pause, 3),
        "pause_later": round(min(save.pause for save in later), 3),
        "durable_first": round(saves[0].durable, 2),
        "durable_later": round(durable, 2),
        "gb_per_second": round(count / GB / durable, 3),
    }


def join_alone(device: torch.device) -> None:
    """torch's asynchronous saves want a process group, of one process here."""
    if not dist.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)


def name_of(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def table(results: dict[str, dict[str, Any]], count: int) -> str:
    """The figures side by side; the disk's own rate is that of plain files of the same sizes."""
    disk = results.get("disk, writing", {}).get("gb_per_second")
    lines = [f"{count / GB:.2f} GB; the disk takes {disk} GB/s" if disk else f"{count / GB:.2f} GB"]
    lines.append(f"{'':24s} {'pause, s':>16s} {'durable, s':>16s} {'GB/s':>7s} {'of disk':>8s}")

    for name, result in results.items():
        if "pause_first" in result:
            share = f"{result['gb_per_second'] / disk:8.0%}" if disk else ""
            lines.append(
                f"{name:24s} {result['pause_first']:7.2f} {result['pause_later']:8.2f} "
                f"{result['durable_first']:7.1f} {result['durable_later']:8.1f} "
                f"{result['gb_per_second']:7.2f} {share}"
            )
        elif "error" in result:
            lines.append(f"{name:24s} {result['error'][:90]}")

    ours = results.get("ours", {})
    if "load_seconds" in ours:
        lines.append(
            f"load {ours['load_seconds']} s, a plain read of the same files {ours['read_raw_seconds']} s; "
            f"from the page cache {ours['load_from_page_cache_seconds']} s; "
            f"equal to what was saved: {ours['loaded_what_was_saved']}"
        )
    return "\n".join(lines)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, required=True, help="a folder on the disk to measure")
    parser.add_argument("-o", "--output", type=Path, required=True, help="where the JSON goes")
    parser.add_argument("--model", default="qwen3_1.8b", help="whose shapes the tensors have")
    parser.add_argument("--gib", type=float, default=GIB_OF_QWEN3, help="take no more tensors than this")
    parser.add_argument("--only", nargs="+", choices=PARTS, help="parts to do; all of them by default")
    parser.add_argument("--saves", type=int, default=2, help="saves of each way, the first one counted apart")
    parser.add_argument("--minutes", type=float, default=5.0, help="begin nothing new after so long")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser.parse_args(arguments)


def main() -> int:
    bench = Bench(parse())
    bench.run()
    print(table(bench.results, bench.bytes))
    return 0


if __name__ == "__main__":
    run_command(main)

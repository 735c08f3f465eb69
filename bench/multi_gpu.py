"""Several GPUs of one machine: ``python -m bench.multi_gpu --data DIR -o FILE`` prints a table and writes JSON.

DIR holds the data sets ``sotu-llama3``, ``sotu-qwen3`` and ``sotu-gpt2``. For each model and number of GPUs: each GPU
alone, all at the same time, then together with DDP, ZeRO-1 and FSDP under the tiers, and torchtitan where it is
installed, on the same batches; then the losses of many short steps by each layout. Models run beside each other where
there are GPUs enough. At last a smoke model is trained with FSDP on all GPUs, and once killed with SIGKILL in the
middle and resumed on half.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench.document import save
from bench.fresh import last_words
from bench.h200 import PEAK, catalogue_batch, mfu
from bench.ranks import WAYS
from jobctl.jobs.core.errors import run_command
from jobctl.trainer.reporting.runlog import records_of_run

MODELS = ("llama3_1.5b", "qwen3_1.8b")
BLOCK = 2048
ALONE = [("none", 2), ("none", 4), ("none", 3), ("torchtitan-none", 2)]
TOGETHER = [
    ("ddp", 2), ("zero1", 2), ("fsdp", 2), ("ddp", 4), ("zero1", 4), ("ddp", 3), ("zero1", 3), ("torchtitan", 2),
    ("ddp", 1), ("zero1", 1), ("fsdp", 1),
]  # fmt: skip
"""Ways and tiers. With FSDP tiers 3 and 4 are tier 2: it leaves CUDA graphs and float8 out."""
CURVE = {"batch": 4, "accumulation": 1, "steps": 100}
CURVES = [("ddp", 1), ("ddp", 2), ("zero1", 1), ("fsdp", 1)]
"""Ways, and which run: DDP's second tells what is left to chance, as attention adds up gradients in any order."""
GRACE = 60.0
"""Seconds that the ranks have after the deadline for the job that they are at."""
SMOKE = {
    "max_iters": 60, "checkpoint_interval": 10, "log_interval": 1, "eval_interval": 1000, "block_size": 128,
    "batch_size": 4, "dtype": "bfloat16", "learning_rate": 1e-3, "min_lr": 1e-4,
}  # fmt: skip


def jobs(options: argparse.Namespace, model: str, gpus: int) -> list[dict[str, Any]]:
    """What to run on so many GPUs, in this order."""
    common = {"model": model, "data": str(options.data / f"sotu-{model.split('_')[0]}")}
    batch, accumulation = catalogue_batch(model)
    timed = {
        "batch": options.batch or batch, "accumulation": options.accumulation or accumulation,
        "steps": options.steps,
    }  # fmt: skip
    listed = [(way, tier, timed) for way, tier in ALONE]
    if gpus > 1:
        listed += [(way, tier, timed | {"profile": True}) for way, tier in TOGETHER]
        listed += [(way, 2, CURVE | {"curve": run}) for way, run in CURVES]
    return [
        common | {"way": way, "tier": tier} | facts
        for way, tier, facts in listed
        if (not way.startswith("torchtitan") or find_spec("torchtitan"))
        and not {f"{way}-{tier}", "curve" if "curve" in facts else ""} & set(options.leave_out)
    ]


def side_by_side(
    options: argparse.Namespace, count: int, deadline: float, report: Callable[[dict[str, Any]], None]
) -> None:
    """Each model's jobs on ``count`` GPUs, a model to every so many of the machine's; ``report`` gets each result."""
    free: queue.SimpleQueue[list[int]] = queue.SimpleQueue()
    places = max(options.gpus) // count
    for place in range(places):
        free.put(list(range(place * count, (place + 1) * count)))

    def run(model: str) -> None:
        gpus = free.get()
        try:
            for result in on_gpus(gpus, jobs(options, model, count), deadline):
                report(result)
        finally:
            free.put(gpus)

    with ThreadPoolExecutor(places) as pool:
        list(pool.map(run, options.models))


def on_gpus(gpus: Sequence[int], work: Sequence[dict[str, Any]], deadline: float) -> Iterator[dict[str, Any]]:
    """Do the jobs on these GPUs, a rank each; what each came to, when it is done. Where they break off, the error."""
    if not work:
        return
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "errors").open("w+") as errors:
        listed = Path(folder) / "jobs.json"
        listed.write_text(json.dumps(work))
        command = [
            sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={len(gpus)}",
            "-m", "bench.ranks", str(listed), str(deadline),
        ]  # fmt: skip
        visible = ",".join(map(str, gpus))
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True,
            env=os.environ | {"CUDA_VISIBLE_DEVICES": visible, "OMP_NUM_THREADS": "4"},
        )  # fmt: skip
        assert process.stdout is not None
        limit = max(0.0, deadline - time.time()) + GRACE
        end = threading.Timer(limit, os.killpg, (process.pid, signal.SIGKILL))
        end.start()
        done = 0
        for text in process.stdout:
            if text.startswith("{"):
                done += 1
                yield json.loads(text)
        code = process.wait()
        end.cancel()
        if code and done < len(work):
            errors.seek(0)
            yield {"error": last_words(errors.read()), "gpus": len(gpus)} | work[done]


def figures(result: dict[str, Any], alone: dict[tuple[Any, ...], list[float]]) -> dict[str, Any]:
    """Tokens a second and GPU, MFU, and the share of what the same GPUs do alone with the same model and tier.

    It is given of their mean, and of the slowest of them, whose pace is that of all when they work together.
    """
    if "error" in result or "curve" in result:
        return result
    model = result["model"]
    way = result["way"]
    tier = result["tier"]
    gpus = result["gpus"]
    tokens = result["batch"] * result["accumulation"] * BLOCK
    rates = [tokens / ms * 1e3 for ms in result["ranks_ms"]]
    rate = statistics.mean(rates)
    found = result | {"tokens_per_second_per_gpu": round(rate), "mfu": mfu(model, rate, BLOCK)}
    if way.endswith("none"):
        alone[model, way, tier, gpus] = rates
        return found | {"tokens_per_second_by_gpu": [round(r) for r in rates]}
    # Tier 1 only reads its batches otherwise.
    base = model, "torchtitan-none" if way == "torchtitan" else "none", max(tier, 2), gpus
    if base in alone:
        found["efficiency"] = round(rate / statistics.mean(alone[base]), 4)
        found["efficiency_of_slowest"] = round(rate / min(alone[base]), 4)
    return found


def line(result: dict[str, Any]) -> str:
    head = f"{result['model']:12s} {result['gpus']} x {result['way']:15s} tier {result['tier']}"
    if "error" in result:
        return f"{head} {result['error'][:400]!r}"
    if "curve" in result:
        return f"{head} {len(result['losses'])} steps, loss {result['losses'][0]} > {result['losses'][-1]}"
    shown = " " * 23
    if "efficiency" in result:
        shown = f"{result['efficiency']:6.1%} (slowest {result['efficiency_of_slowest']:.1%})"
    waits = (
        f"{result['exposed_communication_ms']:7.1f}" if "exposed_communication_ms" in result else "       "
    )
    return (
        f"{head} {result['tokens_per_second_per_gpu']:7,d} tokens/s a GPU  MFU {result['mfu']:6.1%}  of alone {shown}  "
        f"exposed {waits} ms of {result['step_ms']:7.1f}  peak {result['peak_gib']:5.1f} GiB  "
        f"optimiser {result['optimizer_bytes'] / 1e9:5.2f} GB  ready {result['ready_s']:4.0f} s"
    )


# ------------------------------------------------ a smoke model under FSDP; killed, and resumed on half the GPUs


def trainer(run: Path, data: Path, gpus: int, accumulation: int) -> subprocess.Popen[bytes]:
    flags = SMOKE | WAYS["fsdp"] | {"gradient_accumulation_steps": accumulation}
    command = [
        sys.executable, "-m", "jobctl.trainer.launch", "--standalone", f"--nproc_per_node={gpus}",
        "--", "--model=qwen3_smoke",
        f"--dataset={data}", f"--run_dir={run}", *(f"--{name}={value}" for name, value in flags.items()),
    ]  # fmt: skip
    return subprocess.Popen(command, stdout=sys.stderr)


def losses(run: Path) -> dict[int, float]:
    return {r["iter"]: r["loss"] for r in records_of_run(run) if r["kind"] == "iteration"}


def smoke(data: Path, gpus: int) -> dict[str, Any]:
    """Losses of a small model under FSDP, left alone, and killed at step 35 and resumed on half the GPUs."""
    with tempfile.TemporaryDirectory() as folder:
        return smoke_in(Path(folder), data, gpus)


def smoke_in(folder: Path, data: Path, gpus: int) -> dict[str, Any]:
    half = max(1, gpus // 2)
    whole, killed = (trainer(folder / name, data, gpus, 2) for name in ("whole", "killed"))
    while max(losses(folder / "killed"), default=0) < 35 and killed.poll() is None:
        time.sleep(0.01)
    ranks = subprocess.run(
        ["pgrep", "-f", "--", f"-m jobctl.trainer .*{folder}/killed"],
        capture_output=True,
        text=True,
        check=False,
    )
    victims = [int(pid) for pid in ranks.stdout.split() if int(pid) != killed.pid]
    if victims:
        os.kill(victims[-1], signal.SIGKILL)
    codes = {"killed": killed.wait(timeout=180)}
    before = max(losses(folder / "killed"), default=0)
    resumed = trainer(folder / "killed", data, half, 2 * gpus // half)
    codes |= {"resumed": resumed.wait(timeout=180), "whole": whole.wait(timeout=180)}
    one = losses(folder / "whole")
    other = losses(folder / "killed")
    both = one.keys() & other.keys()
    return {
        "exit_codes": codes, "killed_after_step": before, "resumed_on": half, "steps_in_both": len(both),
        "largest_difference": max((abs(one[step] - other[step]) for step in both), default=None),
        "last_loss": one[max(one)] if one else None,
    }  # fmt: skip


def curves(results: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Largest difference of a step's loss to DDP's, by model, GPUs and layout; same weights, same batches."""
    runs = {
        (r["model"], r["gpus"], f"{r['way']}-{r['tier']}", r.get("curve", 0)): r["losses"]
        for r in results
        if "losses" in r and (r["way"], r["tier"]) in TOGETHER and r["way"] != "torchtitan"
    }
    found = {}
    for (model, gpus, name, run), values in runs.items():
        base = runs.get((model, gpus, "ddp-2", min(run, 1)))
        if base and values is not base:
            pairs = list(zip(base, values, strict=False))  # graphs take a step more to warm up
            again = " again" if run > 1 else ""
            found[f"{model} {gpus} x {name}{again}, {len(pairs)} steps"] = max(abs(a - b) for a, b in pairs)
    return found


class Report:
    """The results so far: each is printed, and all written to the file, as soon as it is there."""

    def __init__(self, output: Path) -> None:
        self.output = output
        self.alone = dict[tuple[Any, ...], list[float]]()
        self.lock = threading.Lock()
        self.document: dict[str, Any] = {"peak_flops": PEAK, "results": []}

    def add(self, result: dict[str, Any]) -> None:
        with self.lock:
            results = self.document["results"]
            results.append(figures(result, self.alone))
            print(line(results[-1]), flush=True)
            self.save(largest_difference_to_ddp=curves(results))

    def save(self, **facts: Any) -> None:
        self.document |= facts
        save(self.output, **self.document)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of data sets")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--gpus", type=int, nargs="+", default=[2], help="such as 2 4")
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--batch", type=int, help="sequences a micro-step; by default the catalogue's")
    parser.add_argument("--accumulation", type=int, help="micro-steps a step; by default the catalogue's")
    parser.add_argument("--steps", type=int, default=3, help="steps to time")
    parser.add_argument(
        "--leave-out", nargs="*", default=[], metavar="WAY-TIER", help="such as ddp-1; or curve, smoke"
    )
    parser.add_argument("--minutes", type=float, default=20.0, help="start nothing after so long")
    return parser.parse_args()


def main() -> int:
    options = parse()
    began = time.time()
    report = Report(options.output)
    for count in options.gpus:
        side_by_side(options, count, began + 60 * options.minutes, report.add)
    wanted = sum(len(jobs(options, model, count)) for model in options.models for count in options.gpus)
    if missing := wanted - len(report.document["results"]):
        late = time.time() > began + 60 * options.minutes
        why = f"{options.minutes:g} minutes were over" if late else "the errors above say why"
        print(f"{missing} of {wanted} jobs were not run: {why}")
    if "smoke" not in options.leave_out:
        report.save(smoke=smoke(options.data / "sotu-gpt2", max(options.gpus)))
        print("smoke model:", json.dumps(report.document["smoke"], indent=1))
    print("largest difference to DDP's losses:", report.document.get("largest_difference_to_ddp"))
    return 0


if __name__ == "__main__":
    run_command(main)

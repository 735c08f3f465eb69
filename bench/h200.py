"""Ours against the peers that are installed, on the same tokens: ``python -m bench.h200 --data DIR -o FILE``.

DIR holds the data sets ``sotu-gpt2``, ``sotu-llama2``, ``sotu-llama3`` and ``sotu-qwen3`` of ``python -m jobctl.prep``.
Each entrant runs in a process of its own, one after another. Prints a table, writes JSON.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench.document import save
from bench.fresh import NO_TIME, FreshProcesses
from jobctl.jobs.catalog.arithmetic import flops_per_token
from jobctl.jobs.catalog.loader import load_model
from jobctl.jobs.core.errors import run_command
from jobctl.jobs.spec.job_spec import TrainSpec
from jobctl.jobs.spec.resolution import Choices, resolve

MODELS = ("qwen3_1.8b", "llama3_1.5b", "llama3_2.2b", "llama2_1.36b", "gpt2_1.36b")
OUR_PLAIN = ("ours-plain", "ours-eager")
"""Ours without the fused kernels, with compiled blocks and without: for who asks, since neither is what runs."""
PEAK = 989e12
"""Dense bfloat16 peak of an H100 or H200, FLOP/s: all shares are of this one, float8's too."""


def entrants_for(model: str, nanogpt: str | None) -> list[str]:
    """Ours, and the peers that can train this architecture and are installed."""
    found = ["ours", "ours-fp8"]
    if model.startswith("gpt2"):
        if nanogpt:
            found += ["nanogpt", "nanogpt-bf16"]
    else:
        found += [p + v for p in ("torchtitan", "litgpt") if find_spec(p) for v in ("", "-bf16")]
    if find_spec("transformers"):
        found += ["transformers", "transformers-bf16"]
    return found


def catalogue_batch(model: str) -> tuple[int, int]:
    """The catalogue's sequences a micro-step and micro-steps a step, for an H200."""
    spec = resolve(Choices(model=model, hardware="h200"), version="bench").spec
    assert isinstance(spec, TrainSpec)
    return spec.train.batch_size, spec.train.gradient_accumulation_steps


def jobs(options: argparse.Namespace) -> list[dict[str, Any]]:
    result = []
    for model in options.models:
        batch, accumulation = catalogue_batch(model)
        tokenizer = model.split("_")[0]
        wanted = entrants_for(model, options.nanogpt)
        if options.only:
            wanted = [entrant for entrant in [*wanted, *OUR_PLAIN] if entrant in options.only]
        for entrant in wanted:
            result.append(
                {
                    "model": model, "entrant": entrant, "batch": options.batch or batch,
                    "accumulation": options.accumulation or accumulation,
                    "block": 2048, "seconds": options.seconds,
                    "steps": options.steps if entrant == "ours" else options.other_steps,
                    "data": str(options.data / f"sotu-{tokenizer}"), "nanogpt": options.nanogpt,
                    "also": options.also if entrant.startswith("ours") else [],
                }
            )  # fmt: skip
    return result


def run(queue: Sequence[dict[str, Any]], deadline: float) -> Iterator[dict[str, Any]]:
    """Each job's result. What does not fit is tried with half the batch, what there is no time for is named."""
    with FreshProcesses() as processes:
        for job in queue:
            if time.monotonic() > deadline:
                yield job | {"error": NO_TIME}
                continue
            result = processes.run(job, deadline)
            yield result
            if "OutOfMemory" in result.get("error", ""):
                half = {"batch": job["batch"] // 2, "accumulation": job["accumulation"] * 2}
                yield processes.run(job | half, deadline)


def figures(result: dict[str, Any]) -> dict[str, Any]:
    """Tokens a second and the share of the peak."""
    if "step_ms" not in result:
        return result
    tokens = result["batch"] * result["accumulation"] * result["block"]
    rate = tokens / result["step_ms"] * 1e3
    return result | {"tokens_per_second": round(rate), "mfu": mfu(result["model"], rate, result["block"])}


def mfu(model: str, rate: float, block: int) -> float:
    """Share of the peak at ``rate`` tokens a second and GPU, in sequences of ``block``."""
    return round(rate * flops_per_token(load_model(model).config, block) / PEAK, 4)


def line(result: dict[str, Any]) -> str:
    head = f"{result['model']:13s} {result['entrant']:16s} {result['batch']:2d} x {result['accumulation']:2d}"
    if "error" in result:
        return f"{head} {result['error'][:120]!r}"
    peak = result["peak_gib"][str(result["batch"])]
    timed = len(result["steps_ms"])
    return (
        f"{head} {result['tokens_per_second']:7,d} tokens/s  MFU {result['mfu']:6.1%}  "
        f"step {result['step_ms']:8.1f} ms (median of {timed})  peak {peak:6.1f} GiB  "
        f"first step after {result['first_step_s']:5.1f} s  "
        f"loss {result['first_loss']:.3f} > {result['last_loss']:.3f}"
    )


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of data sets")
    parser.add_argument("-o", "--output", type=Path, required=True, help="where the JSON goes")
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        help="entrants, also ours-plain and ours-eager; all that are found by default",
    )
    parser.add_argument("--nanogpt", help="path of nanoGPT's model.py")
    parser.add_argument("--batch", type=int, help="sequences a micro-step; by default the catalogue's")
    parser.add_argument("--accumulation", type=int, help="micro-steps a step; by default the catalogue's")
    parser.add_argument(
        "--also", type=int, nargs="*", default=[], help="further batches whose peak memory is wanted"
    )
    parser.add_argument("--steps", type=int, default=20, help="steps of ours to time")
    parser.add_argument(
        "--other-steps", type=int, default=20, help="steps of the others, and of ours in float8"
    )
    parser.add_argument("--seconds", type=float, default=120.0, help="stop timing an entrant after so long")
    parser.add_argument("--minutes", type=float, default=8.0, help="stop altogether after so long")
    return parser.parse_args(arguments)


def main() -> int:
    options = parse()
    results = []
    for result in run(jobs(options), time.monotonic() + 60 * options.minutes):
        results.append(figures(result))
        print(line(results[-1]), flush=True)
        save(options.output, peak_flops=PEAK, results=results)
    return 0


if __name__ == "__main__":
    run_command(main)

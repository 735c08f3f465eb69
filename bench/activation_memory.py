"""Memory and rate of ``activation_checkpointing``: ``python -m bench.activation_memory --data DIR -o FILE``.

For each model, with the fused kernels and without, each way takes a step of two micro-steps and then a few timed ones,
in a process of its own. DIR holds the data sets of ``bench.h200``. ``--budget`` bounds the whole in seconds.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from bench.document import save
from bench.fresh import NO_TIME, FreshProcesses
from jobctl.jobs.core.errors import run_command

WAYS = ("none", "selective", "offload", "full")
KERNELS = {"fused": "ours", "plain": "ours-plain"}
MODELS = {"llama3_2.2b": 8, "qwen3_1.8b": 16, "llama3_3.6b": 8}
"""Models, and the sequences of 2,048 tokens in a micro-step."""
CHANGED: dict[str, tuple[str, dict[str, Any]]] = {
    "llama3_3.6b": (
        "llama3_2.2b",
        {
            "hidden_size": 3072,
            "intermediate_size": 8192,
            "num_hidden_layers": 28,
            "num_attention_heads": 24,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "tie_word_embeddings": False,
        },
    )
}
"""Models that the catalogue has not: the entry that they begin with, and what they change of its architecture."""


def jobs(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return one job a measurement; the fused ones come first, since they are what runs."""
    return [
        {
            "name": model,
            "model": CHANGED.get(model, (model, {}))[0],
            "shape": CHANGED.get(model, (model, {}))[1],
            "entrant": KERNELS[kernels],
            "kernels": kernels,
            "activation_checkpointing": way,
            "batch": options.batch or MODELS[model],
            "accumulation": 2,
            "block": 2048,
            "steps": options.steps,
            "seconds": options.seconds,
            "data": str(options.data / f"sotu-{options.tokenizer or model.split('_')[0]}"),
        }
        for kernels in options.kernels
        for model in options.models
        for way in options.ways
        if (kernels, way) != ("plain", "offload")  # only fused blocks offload
    ]


def row(result: dict[str, Any]) -> dict[str, Any]:
    """Return what is kept of a measurement: the peak in GiB, tokens a second, and the losses to compare."""
    names = ("kernels", "activation_checkpointing", "batch", "note", "device", "torch")
    kept = {"model": result["name"]} | {name: result[name] for name in names if name in result}
    if "error" in result:
        return kept | {"error": result["error"][:200]}

    tokens = result["batch"] * result["block"] * result["accumulation"]
    return kept | {
        "peak_gib": round(max(result["peak_gib"].values()), 2),
        "tokens_per_second": round(tokens / result["step_ms"] * 1e3),
        "step_ms": result["step_ms"],
        "first_loss": result["first_loss"],
        "last_loss": result["last_loss"],
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows for people, each beside the one that recomputes nothing."""
    lines = [f"{'model':<12} {'kernels':<7} {'recomputes':<10} {'peak GiB':>9} {'tokens/s':>9} {'rate':>7}"]
    base: dict[tuple[str, str], int] = {}
    for entry in rows:
        key = entry["model"], entry["kernels"]
        start = f"{key[0]:<12} {key[1]:<7} {entry['activation_checkpointing']:<10}"
        if "error" in entry:
            lines.append(f"{start} {entry['error'][:60]}")
            continue

        rate = entry["tokens_per_second"]
        share = rate / base.setdefault(key, rate)
        lines.append(f"{start} {entry['peak_gib']:>9.2f} {rate:>9,} {share:>7.1%}")

    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--kernels", nargs="+", choices=list(KERNELS), default=list(KERNELS))
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--tokenizer", default="", help="take sotu-NAME for all models")
    parser.add_argument("--batch", type=int, default=0, help="sequences a micro-step; 0: each model's")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=6.0, help="of one measurement's timed steps")
    parser.add_argument("--budget", type=float, default=280.0, help="seconds of the whole")
    options = parser.parse_args()

    deadline = time.monotonic() + options.budget
    rows: list[dict[str, Any]] = []
    with FreshProcesses() as processes:
        for job in jobs(options):
            late = time.monotonic() > deadline
            rows.append(row(job | {"error": NO_TIME} if late else processes.run(job, deadline)))
            print(rows[-1], flush=True)

            # Written after each, so that a machine that goes away takes nothing with it.
            save(options.output, results=rows)

    print(table(rows))
    return 0


if __name__ == "__main__":
    run_command(main)

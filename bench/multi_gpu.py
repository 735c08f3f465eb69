"""Several GPUs of one machine: ``python -m bench.multi_gpu --data DIR -o FILE`` prints a table and writes JSON.

DIR holds the data sets ``sotu-llama3``, ``sotu-qwen3`` and ``sotu-gpt2``. For each model: one GPU, then all of them
with DDP, ZeRO-1 and FSDP under the tiers, and torchtitan's FSDP2 where it is installed, on the same batches. "plain"
is one GPU without the fused kernels, which FSDP does without too. Then a smoke model is trained on all
GPUs, killed with SIGKILL in the middle, and resumed on half, beside one left alone.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench.h200 import PEAK, mfu
from trainer.runlog import newest, records_of

MODELS = ("llama3_1.5b", "qwen3_1.8b")
BLOCK = 2048
ONE = [("none", 2), ("none", 3), ("none", 4), ("plain", 2), ("torchtitan", 2)]
ALL = [("ddp", 1), ("ddp", 2), ("ddp", 3), ("ddp", 4), ("zero1", 2), ("fsdp", 2), ("torchtitan", 2)]
KILL = {
    "max_iters": 60,
    "checkpoint_interval": 10,
    "log_interval": 1,
    "eval_interval": 1000,
    "block_size": 128,
}


def jobs(options: argparse.Namespace, model: str, ways: Sequence[tuple[str, int]]) -> list[dict[str, Any]]:
    return [
        {
            "model": model, "way": way, "tier": tier, "batch": options.batch, "accumulation": options.accumulation,
            "steps": options.steps, "data": str(options.data / f"sotu-{model.split('_')[0]}"),
            "profile": way not in ("none", "plain"),
        }
        for way, tier in ways
        if (way != "torchtitan" or find_spec("torchtitan")) and f"{way}-{tier}" not in options.leave_out
    ]  # fmt: skip


def on_gpus(gpus: Sequence[int], work: Sequence[dict[str, Any]], deadline: float) -> list[dict[str, Any]]:
    """Do the jobs on these GPUs, a rank each; what they printed."""
    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder) / "jobs.json"
        listed.write_text(json.dumps(work))
        command = [
            sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={len(gpus)}",
            "-m", "bench.ranks", str(listed), str(deadline),
        ]  # fmt: skip
        visible = ",".join(map(str, gpus))
        with (Path(folder) / "errors").open("w+") as errors:
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True,
                env=os.environ | {"CUDA_VISIBLE_DEVICES": visible, "OMP_NUM_THREADS": "4"},
            )  # fmt: skip
            try:
                out, _ = process.communicate(timeout=max(10.0, deadline + 60 - time.time()))
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                out, _ = process.communicate()
            errors.seek(0)
            results = [json.loads(text) for text in out.splitlines() if text.startswith("{")]
            return results or [{"error": errors.read().strip()[-1500:], "gpus": len(gpus)} | dict(work[0])]


def figures(result: dict[str, Any], alone: dict[tuple[str, str, int], float]) -> dict[str, Any]:
    """Tokens a second and GPU, MFU, and the share of the one-GPU rate of the same model, tier and kernels.

    FSDP, which runs the plain kernels, has a second share: of one GPU with the fused ones.
    """
    if "step_ms" not in result:
        return result
    model, way, tier = result["model"], result["way"], result["tier"]
    rate = result["batch"] * result["accumulation"] * BLOCK / result["step_ms"] * 1e3
    found = result | {"tokens_per_second_per_gpu": round(rate), "mfu": mfu(model, rate, BLOCK)}
    if result["gpus"] == 1:
        alone[model, way, tier] = rate
        return found
    tier = max(tier, 2)  # tier 1 only reads its batches otherwise
    same = {"ddp": "none", "zero1": "none", "torchtitan": "torchtitan"}.get(way, "plain")
    bases = {"efficiency": same, "of_fused": "none" if same == "plain" else ""}
    return found | {
        name: round(rate / alone[model, base, tier], 4)
        for name, base in bases.items()
        if (model, base, tier) in alone
    }


def line(result: dict[str, Any]) -> str:
    head = f"{result['model']:12s} {result['gpus']} x {result['way']:10s} tier {result['tier']}"
    if "error" in result:
        return f"{head} {result['error'][-400:]!r}"
    shown = f"{result['efficiency']:6.1%}" if "efficiency" in result else "      "
    waits = (
        f"{result['exposed_communication_ms']:7.1f}" if "exposed_communication_ms" in result else "       "
    )
    return (
        f"{head} {result['tokens_per_second_per_gpu']:7,d} tokens/s a GPU  MFU {result['mfu']:6.1%}  of one {shown}  "
        f"exposed {waits} ms of {result['step_ms']:7.1f}  peak {result['peak_gib']:5.1f} GiB  "
        f"optimiser {result['optimizer_bytes'] / 1e9:5.2f} GB  ready {result['ready_s']:4.0f} s"
    )


# ------------------------------------------------------------------------------ killed, and resumed on half the GPUs


def trainer(run: Path, data: Path, gpus: int, accumulation: int) -> subprocess.Popen[bytes]:
    flags = KILL | {"batch_size": 4, "gradient_accumulation_steps": accumulation, "dtype": "bfloat16"}
    command = [
        sys.executable, "-m", "trainer.launch", "--standalone", f"--nproc_per_node={gpus}", "--", "--model=qwen3_smoke",
        f"--dataset={data}", f"--run_dir={run}", *(f"--{name}={value}" for name, value in flags.items()),
    ]  # fmt: skip
    return subprocess.Popen(command, stdout=sys.stderr)


def losses(run: Path) -> dict[int, float]:
    path = newest(run)
    return {r["iter"]: r["loss"] for r in records_of(path) if r["kind"] == "iteration"} if path else {}


def killed_and_resumed(data: Path, gpus: int) -> dict[str, Any]:
    """Losses of a run killed at step 35 and resumed on half the GPUs, beside those of one left alone."""
    with tempfile.TemporaryDirectory() as folder:
        whole, parts = Path(folder) / "whole", Path(folder) / "parts"
        code = trainer(whole, data, gpus, 2).wait(timeout=180)
        if code:
            return {"error": f"training ended with {code}"}
        first = trainer(parts, data, gpus, 2)
        while max(losses(parts), default=0) < 35 and first.poll() is None:
            time.sleep(0.01)
        ranks = subprocess.run(
            ["pgrep", "-f", "--", f"-m trainer .*{parts}"], capture_output=True, text=True, check=False
        )
        victims = [int(pid) for pid in ranks.stdout.split() if int(pid) != first.pid]
        os.kill(victims[-1], signal.SIGKILL)
        killed = first.wait(timeout=180)
        before = max(losses(parts))
        resumed = trainer(parts, data, max(1, gpus // 2), 2 * gpus // max(1, gpus // 2)).wait(timeout=180)
        left, right = losses(whole), losses(parts)
        worst = max(abs(left[step] - right[step]) for step in left)
        return {
            "exit_codes": {"left alone": code, "killed": killed, "resumed": resumed}, "killed_after_step": before,
            "steps": len(right), "largest_difference": worst, "last_loss": [left[max(left)], right[max(right)]],
        }  # fmt: skip


def curves(results: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Largest difference of a step's loss to DDP's, for each model and layout; same weights, same batches."""
    found = {}
    for model in MODELS:
        runs = {
            f"{r['way']}-{r['tier']}": r["losses"]
            for r in results
            if r["model"] == model and r["gpus"] > 1 and "losses" in r and r["way"] != "torchtitan"
        }
        base = runs.get("ddp-2") or runs.get("ddp-1")
        for name, values in runs.items():
            if base:
                found[f"{model} {name}"] = max(abs(a - b) for a, b in zip(base, values, strict=False))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of data sets")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--gpus", type=int, default=2)
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--batch", type=int, default=8, help="sequences a micro-step")
    parser.add_argument("--accumulation", type=int, default=8, help="micro-steps a step")
    parser.add_argument("--steps", type=int, default=3, help="steps to time")
    parser.add_argument(
        "--leave-out", nargs="*", default=[], metavar="WAY-TIER", help="such as ddp-1; or killed"
    )
    parser.add_argument("--minutes", type=float, default=7.0, help="start nothing after so long")
    options = parser.parse_args()
    deadline, alone = time.time() + 60 * options.minutes, dict[tuple[str, str, int], float]()
    document: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "command": " ".join(sys.argv), "peak_flops": PEAK, "results": [],
    }  # fmt: skip

    def report(found: Sequence[dict[str, Any]]) -> None:
        for result in found:
            document["results"].append(figures(result, alone))
            print(line(document["results"][-1]), flush=True)
        document["largest_difference_to_ddp"] = curves(document["results"])
        options.output.write_text(json.dumps(document, indent=1) + "\n")

    with ThreadPoolExecutor() as pool:  # one GPU for each model, at the same time
        single = [
            pool.submit(on_gpus, [i % options.gpus], jobs(options, model, ONE), deadline)
            for i, model in enumerate(options.models)
        ]
        for future in single:
            report(future.result())
    for model in options.models:
        report(on_gpus(list(range(options.gpus)), jobs(options, model, ALL), deadline))
    if "killed" not in options.leave_out:
        document["killed"] = killed_and_resumed(options.data / "sotu-gpt2", options.gpus)
        print("killed, and resumed on half the GPUs:", document["killed"], flush=True)
        options.output.write_text(json.dumps(document, indent=1) + "\n")
    print("largest difference to DDP's losses:", document["largest_difference_to_ddp"])


if __name__ == "__main__":
    main()

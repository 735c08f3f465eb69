"""SIGKILL at random instants on a card, saves included: ``python -m bench.kills --folder DIR -o FILE``.

A run that nobody kills is the measure. The same run is then killed ten times and resumed each time. Its log rows and
its final weights must be the same bits. Prints a line for each kill and each setting, writes JSON.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.document import save
from jobctl.jobs.core.errors import run_command
from jobctl.jobs.core.layout import checkpoints_dir
from jobctl.prep.shards.format import Meta, ShardWriter, TokenizerRecord, write_meta
from jobctl.trainer.checkpoint import publication
from jobctl.trainer.checkpoint.weights import load_model_weights
from jobctl.trainer.reporting.runlog import Record, records_of_run

VOCAB_SIZE = 32_768
EOS_ID = 0
DOCUMENT_TOKENS = 500

SHAPE: dict[str, Any] = {
    "architecture": "qwen3",
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "num_hidden_layers": 4,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 2048,
}
"""Qwen3 1.8B's widths with four layers, so that a save takes seconds and ten kills take minutes."""

RECIPE: dict[str, Any] = {
    "block_size": 2048,
    "batch_size": 4,
    "gradient_accumulation_steps": 2,
    "warmup_iters": 5,
    "learning_rate": 1e-3,
    "log_interval": 1,
    "eval_interval": 20,
    "eval_iters": 2,
    "checkpoint_when_busy": "wait",
    "keep_last_checkpoints": 2,
    "gradient_log_interval": 0,
}

SETTINGS: dict[str, dict[str, Any]] = {
    "bf16": {},
    "fp8": {"use_fp8": True},
    "plain": {"kernels": "plain", "compile": False},
    "zero1-fp8": {"use_zero1": True, "use_fp8": True},
    "fsdp": {"use_fsdp": True},
    "fsdp-fp8": {"use_fsdp": True, "use_fp8": True},
}

POLL_SECONDS = 0.002
"""The files are looked at this often, so that a kill meets a save that takes seconds."""


class Killed:
    """One trainer process after another in one run directory."""

    def __init__(self, run_dir: Path, command: list[str], log: Path) -> None:
        self.run_dir = run_dir
        self.command = command
        self.log = log
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                self.command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )

    def alive(self) -> bool:
        assert self.process
        return self.process.poll() is None

    def kill(self) -> None:
        """Send SIGKILL to the process and its children."""
        assert self.process
        os.killpg(self.process.pid, 9)
        self.process.wait()

    def wait_until(self, condition: Callable[[], bool]) -> None:
        while self.alive() and not condition():
            time.sleep(POLL_SECONDS)

    def end(self) -> int:
        """Wait for the process; return its exit code."""
        assert self.process
        return self.process.wait()


def write_tokens(folder: Path, tokens: int = 3_000_000) -> Path:
    """Write random tokens of a skewed distribution as a data set with both splits."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    shards = []

    for split, count in (("train", tokens), ("val", tokens // 20)):
        with ShardWriter(folder / f"{split}.bin", split=split, vocab_size=VOCAB_SIZE) as writer:
            while writer.tokens < count:
                document = generator.zipf(1.3, DOCUMENT_TOKENS) % (VOCAB_SIZE - 1) + 1
                writer.write(np.append(document, EOS_ID), text_bytes=2000)
        assert writer.record
        shards.append(writer.record)

    meta = Meta(
        dataset="random",
        dtype="uint16",
        vocab_size=VOCAB_SIZE,
        tokenizer=TokenizerRecord(name="random", file="none", sha256="random"),
        eos_id=EOS_ID,
        documents=sum(shard.documents for shard in shards),
        tokens=sum(shard.tokens for shard in shards),
        text_bytes=sum(shard.text_bytes for shard in shards),
        shards=tuple(shards),
    )
    write_meta(folder, meta)
    return folder


def command(data: Path, run_dir: Path, options: dict[str, Any], ranks: int) -> list[str]:
    """Return the command line for one run; several ranks have a launcher, which does not start them again."""
    flags = [f"--{name}={value}" for name, value in options.items()]
    words = ["--model_name=kills", f"--dataset={data}", f"--run_dir={run_dir}", *flags]
    if ranks == 1:
        return [sys.executable, "-m", "jobctl.trainer", *words]

    launcher = [sys.executable, "-m", "jobctl.trainer.launch", "--standalone", f"--nproc_per_node={ranks}"]
    return [*launcher, "--max_restarts=0", "--", *words]


def saving(run_dir: Path) -> bool:
    """Return whether a checkpoint is being written at this moment."""
    return checkpoints_dir(run_dir).is_dir() and any(checkpoints_dir(run_dir).glob(".writing-*"))


def latest(run_dir: Path) -> int:
    return publication.pointed(run_dir, "LATEST") or 0


def without_clock(rows: Iterable[Record]) -> list[Record]:
    """Return the rows of steps and validations without what a clock measured."""
    compared = ("kind", "iter", "loss", "lr", "grad_norm", "samples", "tokens", "val_loss", "train_loss")
    kept = [row for row in rows if row["kind"] in ("iteration", "eval")]
    return [{name: row[name] for name in compared if name in row} for row in kept]


def weight_hash(run_dir: Path) -> str:
    weights = load_model_weights(run_dir)[1]
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode())
        digest.update(weights[name].contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def kill_and_resume(
    killed: Killed, kills: int, interval: int, chance: random.Random, pause: float = 0.5
) -> Iterator[dict[str, Any]]:
    """Kill ``kills`` attempts, every other one while it saves; then let one end. Yield what each kill met."""
    for number in range(kills):
        killed.start()
        goal = latest(killed.run_dir) + interval
        killed.wait_until(lambda goal=goal: latest(killed.run_dir) >= goal)  # type: ignore[misc]

        if number % 2:
            killed.wait_until(lambda: saving(killed.run_dir))
        time.sleep(chance.random() * pause)

        if not killed.alive():
            yield {"error": f"the attempt ended with code {killed.end()} before it was killed"}
            return
        cut_short = saving(killed.run_dir)
        killed.kill()
        yield {"kill": number + 1, "latest": latest(killed.run_dir), "save cut short": cut_short}

    killed.start()
    yield {"end": killed.end()}


def trial(options: argparse.Namespace, setting: str) -> dict[str, Any]:
    """Compare the killed run of one setting with the run that nobody killed."""
    folder: Path = options.folder / setting
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    data = write_tokens(folder / "data")
    shape = SHAPE | RECIPE | SETTINGS[setting] | dict(options.set)
    shape |= {"max_iters": options.steps, "checkpoint_interval": options.interval}

    begun = time.monotonic()
    whole, killed = (
        Killed(run_dir, command(data, run_dir, shape, options.ranks), run_dir.with_suffix(".log"))
        for run_dir in (folder / "whole", folder / "killed")
    )
    whole.start()
    if code := whole.end():
        return {"error": f"the whole run ended with code {code}: {tail(whole.log)}"}
    whole_seconds = time.monotonic() - begun

    events = []
    for event in kill_and_resume(killed, options.kills, options.interval, random.Random(options.seed)):
        print(f"{setting}: {event}", flush=True)
        events.append(event)
    if events[-1] != {"end": 0}:
        return {"events": events, "error": tail(killed.log)}

    expected = without_clock(records_of_run(whole.run_dir))
    rows = without_clock(records_of_run(killed.run_dir))
    row_pairs = zip(expected, rows, strict=False)
    return {
        "kills": options.kills,
        "saves cut short": sum(event.get("save cut short", False) for event in events),
        "rows": len(expected),
        "rows that differ": sum(one != other for one, other in row_pairs) + abs(len(expected) - len(rows)),
        "same weights": weight_hash(whole.run_dir) == weight_hash(killed.run_dir),
        "first loss": expected[0].get("loss"),
        "last row": expected[-1],
        "whole run seconds": round(whole_seconds, 1),
        "seconds": round(time.monotonic() - begun, 1),
        "events": events,
    }


def tail(log: Path) -> str:
    return log.read_text(errors="replace")[-1500:]


def pair(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name, value


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, required=True, help="where the runs go; emptied before")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--settings", nargs="+", default=["bf16", "fp8"], choices=list(SETTINGS))
    parser.add_argument("--ranks", type=int, default=1, help="processes, one a GPU")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--steps", type=int, default=90)
    parser.add_argument("--interval", type=int, default=5, help="steps between checkpoints")
    parser.add_argument("--seed", type=int, default=7, help="of the instants")
    parser.add_argument("--set", nargs="*", type=pair, default=[], help="other trainer options, NAME=VALUE")
    options = parser.parse_args()

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    results: dict[str, Any] = {}
    for setting in options.settings:
        results[setting] = trial(options, setting)
        print(f"{setting}: {results[setting]}", flush=True)
        save(
            options.output,
            torch=torch.__version__,
            device=device,
            ranks=options.ranks,
            shape=SHAPE,
            results=results,
        )
    same = [row.get("same weights") and not row.get("rows that differ") for row in results.values()]
    return 0 if all(same) else 1


if __name__ == "__main__":
    run_command(main)

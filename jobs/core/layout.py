"""The paths inside ``$JOBCTL_ROOT`` and inside a run directory, each once for all readers and writers."""

from __future__ import annotations

import re
from pathlib import Path

RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""A run's name is a folder's name, a Slurm job name and a label; so it is kept to what all of them allow."""


def runs(root: Path) -> Path:
    return root / "runs"


def run_dir(root: Path, run: str) -> Path:
    return runs(root) / run


def pipeline_file(root: Path, pipeline: str) -> Path:
    return root / "pipelines" / f"{pipeline}.json"


def tokenizers(root: Path) -> Path:
    return root / "tokenizers"


def tokenizer_dir(root: Path, tokenizer: str) -> Path:
    return tokenizers(root) / tokenizer


def source_dir(root: Path, dataset: str) -> Path:
    """The text of a data set: the mirror of the hub's, or what a user put there."""
    return root / "sources" / dataset


def dataset_dir(root: Path, dataset: str, tokenizer: str) -> Path:
    return root / "datasets" / f"{dataset}-{tokenizer}"


def preparation_file(dataset: Path) -> Path:
    """How far the job is that makes this data set, as JSON."""
    return dataset / ".prep" / "status.json"


def record_file(run: Path, step: str = "") -> Path:
    """What was submitted, as data; of a ``step`` that reads the run's checkpoint, its own."""
    return run / (f"run.{step}.json" if step else "run.json")


def attempt_file(run: Path, attempt: int) -> Path:
    return run / "attempts" / f"{attempt}.json"


def script_file(run: Path, step: str = "") -> Path:
    """What was submitted; ``step`` where it goes on from the checkpoint that is there."""
    return run / (f"script.{step}" if step else "script")


def code_dir(run: Path, step: str = "") -> Path:
    """The source tree that the run was patched with; of a step that reads its checkpoint, that step's own."""
    return run / (f"code.{step}" if step else "code")


def log_dir(run: Path, attempt: int) -> Path:
    return run / "logs" / str(attempt)


def rank_log(run: Path, attempt: int, rank: int) -> Path:
    return log_dir(run, attempt) / f"rank-{rank:05d}.log"


def batch_log(run: Path, attempt: int) -> Path:
    """What the batch script itself and the launcher print."""
    return log_dir(run, attempt) / "batch.log"


def hang_dir(run: Path, attempt: int) -> Path:
    """What was found out about a hang of an attempt: stacks, flight records, and the verdict."""
    return log_dir(run, attempt) / "hang"


def hang_file(run: Path, attempt: int) -> Path:
    """The verdict on a hang as JSON; it exists where the attempt was ended as hung."""
    return hang_dir(run, attempt) / "verdict.json"


def bad_nodes_file(run: Path, attempt: int) -> Path:
    """Nodes that the next attempt does without, one a line: its name, a tab, and why."""
    return log_dir(run, attempt) / "bad-nodes"


def metrics_dir(run: Path) -> Path:
    return run / "metrics"


def checkpoints_dir(run: Path) -> Path:
    return run / "checkpoints"


def stop_file(run: Path, step: str = "") -> Path:
    """Whoever creates it asks the trainer to checkpoint and leave; its text says why.

    A ``step`` that reads the checkpoint has its own, which says only why it was ended.
    """
    return run / (f"STOP.{step}" if step else "STOP")


def heartbeat_file(run: Path) -> Path:
    """Written every few seconds by the attempt that trains; gone when it has ended well."""
    return run / ".heartbeat"


def export_dir(run: Path, format: str) -> Path:
    """Where ``trainer.export`` writes the weights for others to load, unless told otherwise."""
    return run / "export" / format

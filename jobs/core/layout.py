"""The paths inside ``$JOBCTL_ROOT`` and inside a run directory.

All readers and writers take them from here.
"""

from __future__ import annotations

import re
from pathlib import Path

RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""The name of a run.

It becomes a folder, a Slurm job name and a label. So it has only characters that all three allow.
"""
TENSORBOARD = "tensorboard"
"""The folder of TensorBoard's event files, inside the folder of the metrics."""


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
    """Return the folder with the text of a data set: a copy from the hub, or files of the user."""
    return root / "sources" / dataset


def dataset_dir(root: Path, dataset: str, tokenizer: str) -> Path:
    return root / "datasets" / f"{dataset}-{tokenizer}"


def preparation_file(dataset: Path) -> Path:
    """Return the JSON file with the progress of the job that prepares this data set."""
    return dataset / ".prep" / "status.json"


def record_file(run: Path, step: str = "") -> Path:
    """Return the file that records what was submitted.

    A ``step`` that reads the run's checkpoint has a separate record.
    """
    return run / (f"run.{step}.json" if step else "run.json")


def attempt_file(run: Path, attempt: int) -> Path:
    return run / "attempts" / f"{attempt}.json"


def script_file(run: Path, step: str = "") -> Path:
    """Return the script that was submitted. A ``step`` that reads the checkpoint has a separate script."""
    return run / (f"script.{step}" if step else "script")


def code_dir(run: Path, step: str = "") -> Path:
    """Return the source tree of ``--patch``. A ``step`` that reads the checkpoint has a separate tree."""
    return run / (f"code.{step}" if step else "code")


def tokenizer_copy(run: Path, tokenizer: str) -> Path:
    """Return the copy of a tokenizer that the user gave as a folder.

    ``templates/job/command.sh.j2`` also contains this path.
    """
    return run / "tokenizer" / tokenizer


def log_dir(run: Path, attempt: int) -> Path:
    return run / "logs" / str(attempt)


def rank_log(run: Path, attempt: int, rank: int) -> Path:
    return log_dir(run, attempt) / f"rank-{rank:05d}.log"


def batch_log(run: Path, attempt: int) -> Path:
    """Return the file with the output of the batch script itself and of the launcher."""
    return log_dir(run, attempt) / "batch.log"


def hang_dir(run: Path, attempt: int) -> Path:
    """Return the folder with the facts about a hang of an attempt: stacks, flight records and the verdict."""
    return log_dir(run, attempt) / "hang"


def hang_file(run: Path, attempt: int) -> Path:
    """Return the JSON file with the verdict on a hang. It exists only if a hang ended the attempt."""
    return hang_dir(run, attempt) / "verdict.json"


def bad_nodes_file(run: Path, attempt: int) -> Path:
    """Return the file of nodes that the next attempt avoids. A line is a node's name, a tab, the reason."""
    return log_dir(run, attempt) / "bad-nodes"


def metrics_dir(run: Path) -> Path:
    return run / "metrics"


def tensorboard_dir(run: Path) -> Path:
    """Return the folder of the run's files for TensorBoard. It has a folder for each series."""
    return metrics_dir(run) / TENSORBOARD


def checkpoints_dir(run: Path) -> Path:
    return run / "checkpoints"


def stop_file(run: Path, step: str = "") -> Path:
    """Return the file that asks the trainer to checkpoint and exit. Its text is the reason.

    A ``step`` that reads the checkpoint has a separate file, which only says why the step was ended.
    """
    return run / (f"STOP.{step}" if step else "STOP")


def cancelled_file(run: Path) -> Path:
    """Return the file with the time at which a user cancelled the waiting job of the run."""
    return run / ".cancelled"


def heartbeat_file(run: Path) -> Path:
    """Return the heartbeat file, which shows that an attempt is alive.

    The attempt that trains writes it every few seconds, and removes it when it ends well.
    """
    return run / ".heartbeat"


def export_dir(run: Path, format: str) -> Path:
    """Return the default folder of ``trainer.export``: weights that other programs can load."""
    return run / "export" / format

"""``jobctl sample``: print text that a run's model writes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click

from jobctl.jobs.cli.choices import root
from jobctl.jobs.cli.finding import Place, find_run, place_options, read_copy
from jobctl.jobs.cli.login import is_here
from jobctl.jobs.core import layout
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.runs.store import Run
from jobctl.jobs.spec.job_spec import TrainSpec

PROMPT = "The state of"


@click.command("sample")
@click.argument("run")
@place_options
@click.option(
    "--tokenizer", metavar="FOLDER", help="Folder of a tokenizer.json.  [default: that of its data]"
)
@click.option("--prompt", default=PROMPT, show_default=True, help="Beginning of the text.")
@click.option("--best", is_flag=True, help="Use the weights of the best validation, not the newest.")
@click.option("--step", type=int, help="Use the checkpoint of this step.")
@click.option(
    "--length", type=click.IntRange(1), default=100, show_default=True, help="Number of tokens to write."
)
@click.option(
    "--temperature",
    type=float,
    default=0.8,
    show_default=True,
    help="Randomness of the text; 0: always the most likely token.",
)
@click.option("--seed", type=int, default=1337, show_default=True, help="Seed of the random draws.")
def sample_command(
    run: str,
    tokenizer: str | None,
    prompt: str,
    best: bool,
    step: int | None,
    length: int,
    temperature: float,
    seed: int,
    **place: Any,
) -> None:
    """Continue a prompt with a checkpoint of RUN, or of the folder that collect made."""
    # A folder that `collect` made is not a run of the root.
    chosen = read_copy(run) if is_here(run) else find_run(run, Place(**place))
    options = [
        f"--prompt={prompt}",
        f"--max_new_tokens={length}",
        f"--temperature={temperature}",
        f"--seed={seed}",
    ]
    options += ["--best"] if best else []
    options += [f"--step={step}"] if step is not None else []
    # A separate process: a login node need not have torch, and jobctl starts without it.
    done = subprocess.run([*sample_words(chosen, tokenizer), *options], check=False)
    sys.exit(done.returncode)


def sample_words(run: Run, named: str | None = None) -> list[str]:
    """Return the command that samples from ``run``, with the interpreter of its jobs on this machine.

    Raises UserError for a job that trains nothing, and for a run whose files are not here.
    """
    spec = run.record.spec
    if not isinstance(spec, TrainSpec):
        raise UserError(f"run '{run.name}' is a {spec.step} and trains no model", hint="jobctl list")

    if not layout.checkpoints_dir(run.path).is_dir():
        raise UserError(
            f"run '{run.name}' has no checkpoint in {run.path}",
            hint=f"jobctl status {run.name}; for a run on a cluster: jobctl collect {run.name} -o DIR",
        )

    python = os.environ.get("JOBCTL_PYTHON") or sys.executable
    # If neither root has it, the trainer looks for it, and reports what is missing.
    tokenizer = named or _tokenizer(run, spec)
    words = [python, "-m", "jobctl.trainer.sample", str(run.path)]
    return [*words, f"--tokenizer={tokenizer}"] if tokenizer else words


def _tokenizer(run: Run, spec: TrainSpec) -> Path | None:
    # A collected run has no root above it.
    roots = (run.path.parent.parent, root())
    folders = [layout.tokenizer_dir(home, spec.inputs.tokenizer) for home in roots]
    return next((folder for folder in folders if folder.is_dir()), None)

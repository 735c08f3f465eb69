"""``jobctl tokenizer``: a tokenizer's files into ``$JOBCTL_ROOT/tokenizers``, checked."""

from __future__ import annotations

import subprocess
import sys

import click

from jobctl.jobs.catalog.data import TokenizerEntry
from jobctl.jobs.catalog.loader import load_entry
from jobctl.jobs.cli.choices import root


@click.command("tokenizer")
@click.argument("name")
@click.option(
    "--token-env", default="HF_TOKEN", show_default=True, help="Variable that holds your hub token."
)
def tokenizer_command(name: str, token_env: str) -> None:
    """Fetch a tokenizer, verify it, and put it where jobs look for it."""
    load_entry("tokenizers", name, TokenizerEntry)
    # A process of its own: prep needs packages that a login node may lack, and jobctl starts without them.
    command = [
        sys.executable,
        "-m",
        "jobctl.prep.fetch",
        name,
        f"--root={root()}",
        f"--token-env={token_env}",
    ]

    sys.exit(subprocess.run(command, check=False).returncode)

"""``jobctl tokenizer``: fetch a tokenizer's files into ``$JOBCTL_ROOT/tokenizers``, and check them."""

from __future__ import annotations

import subprocess
import sys

import click

from jobctl.jobs.catalog.data import TokenizerEntry
from jobctl.jobs.catalog.loader import load_entry
from jobctl.jobs.cli.choices import root
from jobctl.jobs.cli.output import said_when_slow


@click.command("tokenizer")
@click.argument("name")
@click.option(
    "--token-env", default="HF_TOKEN", show_default=True, help="Variable that holds your hub token."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def tokenizer_command(name: str, token_env: str, as_json: bool) -> None:
    """Fetch a tokenizer, verify it, and put it where jobs look for it."""
    # This refuses an unknown name here, before another Python starts.
    load_entry("tokenizers", name, TokenizerEntry)
    # A separate process: prep needs packages that a login node may lack, and jobctl starts without them.
    command = [
        sys.executable,
        "-m",
        "jobctl.prep.fetch",
        name,
        f"--root={root()}",
        f"--token-env={token_env}",
        *(["--json"] if as_json else []),
    ]

    with said_when_slow(f"waiting for the files of {name}; HF_ENDPOINT names another hub or a mirror of it"):
        done = subprocess.run(command, check=False)

    sys.exit(done.returncode)

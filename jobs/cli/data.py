"""``jobctl data``: adopt existing token data."""

from __future__ import annotations

import subprocess
import sys

import click

from jobctl.jobs.cli.choices import root


@click.group("data")
def data_command() -> None:
    """Use token data that another program made."""


@data_command.command("adopt")
@click.argument("folder", type=click.Path())
@click.option(
    "--tokenizer", required=True, help="Tokenizer of the catalogue, or ./FOLDER, that made the ids."
)
@click.option(
    "--validation", multiple=True, help="Pattern of the validation split's files; default: val.bin."
)
@click.option(
    "--dtype", type=click.Choice(["uint16", "uint32"]), help="Type of the ids in files without an index."
)
@click.option("--eos-token", default="", help="Token that ends a document, if the folder does not name it.")
def adopt_command(
    folder: str, tokenizer: str, validation: tuple[str, ...], dtype: str | None, eos_token: str
) -> None:
    """Check the ids in FOLDER, and write meta.json beside them.

    FOLDER holds train.bin and val.bin of nanoGPT, or NAME.bin and NAME.idx of Megatron-LM. Nothing is copied.
    """
    # A separate process: prep needs packages that a login node may lack, and jobctl starts without them.
    command = [
        sys.executable,
        "-m",
        "jobctl.prep.adopt",
        folder,
        f"--root={root()}",
        f"--tokenizer={tokenizer}",
    ]
    if validation:
        command += ["--validation", *validation]
    if dtype:
        command.append(f"--dtype={dtype}")
    if eos_token:
        command.append(f"--eos-token={eos_token}")

    sys.exit(subprocess.run(command, check=False).returncode)

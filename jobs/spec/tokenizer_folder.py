"""A tokenizer that the user gave as a folder.

The module describes it when a job is submitted, and copies it for the job.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from jobctl.jobs.catalog.data import TokenizerEntry
from jobctl.jobs.catalog.loader import load_entry
from jobctl.jobs.core import tokenizer_files
from jobctl.jobs.core.errors import UserError

if TYPE_CHECKING:
    from jobctl.jobs.spec.job_spec import JobSpec


class TokenizerFolder(msgspec.Struct, frozen=True, kw_only=True):
    """A tokenizer's folder as it was when a job was submitted."""

    folder: str
    sha256: str
    """The hash of its ``tokenizer.json``. The ``meta.json`` of its data sets has the same hash."""


def describe(given: str) -> tuple[str, TokenizerFolder]:
    """Return the name of the tokenizer in a folder, and its description. Raises UserError."""
    folder = tokenizer_files.named_folder(given)
    try:
        return folder.name, TokenizerFolder(folder=str(folder), sha256=tokenizer_files.sha256_of(folder))
    except OSError as error:
        raise UserError(f"--tokenizer: {folder} cannot be read: {error}") from None


def ship(tokenizer: TokenizerFolder, into: Path) -> None:
    """Copy the tokenizer to the run's folder ``into``.

    So every node sees it, and a later edit changes nothing. Raises UserError if it cannot be copied, or if it
    has changed since.
    """
    source = Path(tokenizer.folder)
    try:
        into.mkdir(parents=True, exist_ok=True)
        tokenizer_files.copy_files(source, into)
        # Compare the copy and not the source, because the source may change once more.
        changed = tokenizer_files.sha256_of(into) != tokenizer.sha256
    except OSError as error:
        raise UserError(f"{source} cannot be copied to {into}: {error}", code=1) from None

    if changed:
        raise UserError(f"{source} changed during the submission", hint="submit the job again", code=1)


def catalogue_ids(spec: JobSpec) -> int:
    """Return the number of ids of a job's tokenizer.

    Raises UserError if the catalogue does not know the tokenizer.
    """
    entry: TokenizerEntry = load_entry("tokenizers", spec.inputs.tokenizer, TokenizerEntry)
    return entry.vocab_size

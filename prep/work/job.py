"""A prep job: everything that decides its output bytes, and the folder that its workers share.

``OUTPUT/.prep/`` holds the job, the manifest, the claims, and a record of every finished task. Workers share
nothing else, so they may run in one process, on one node or on many.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import msgspec

from jobctl.jobs.catalog.data import DatasetEntry, PrepConfig, TokenizerEntry
from jobctl.jobs.core.durable import make_shared, write_whole
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.core.names import inside
from jobctl.jobs.core.reading import MOST_BYTES_OF_A_LIST, decode_json, read_regular
from jobctl.prep.shards.format import TokenizerRecord
from jobctl.prep.work.claims import Claims

WORK = ".prep"
JOB_FILE = "job.json"
FOLDERS = (
    "claims",
    "progress",
    "rejects",
    "held-out",
    "done/describing",
    "done/holding-out",
    "done/hashing",
    "done/listing-keys",
    "done/matching",
    "done/tokenizing",
    "done/listing-documents",
    "done/shuffling",
    "keys",
    "repeated",
    "runs/train",
    "runs/val",
)
BULKY = ("keys", "repeated", "runs")
"""Folders that are useless once the data set is whole."""
FREE = {"workers": 0, "stale_seconds": 1, "encoder": "auto", "max_reject_share": 0.0}
"""Options that do not change a byte of the result.

Each has one value here, so that it does not change the key.
"""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """The data set, the tokenizer and the options of a job."""

    dataset: str
    entry: DatasetEntry
    tokenizer: TokenizerRecord
    tokens: TokenizerEntry
    config: PrepConfig

    @property
    def key(self) -> str:
        """Return the SHA-256 over everything that decides the result: 64 hexadecimal digits."""
        config = msgspec.structs.replace(self.config, **FREE)
        return hashlib.sha256(msgspec.json.encode(msgspec.structs.replace(self, config=config))).hexdigest()

    @property
    def options(self) -> dict[str, Any]:
        """Return the options that chose the documents, for ``meta.json``."""
        entry = self.entry
        config = self.config
        return {
            "validation_share": entry.validation_share,
            "validation_files": entry.validation_files,
            "text_field": entry.text_field,
            "separator": entry.separator,
            "min_characters": entry.min_characters,
            "max_characters": entry.max_characters,
            "languages": entry.languages,
            "add_bos": config.add_bos,
            "control_tokens": config.control_tokens,
            "duplicates": config.duplicates,
            "shuffle": config.shuffle,
            "weights": config.weights,
            "shard_bytes": config.shard_bytes,
        }


def work_dir(output: Path) -> Path:
    return output / WORK


def claims(output: Path, job: Job) -> Claims:
    return Claims(work_dir(output) / "claims", stale=job.config.stale_seconds)


def create(output: Path, job: Job) -> None:
    """Make the output folder for this job. Raises UserError if another job already has it.

    Raises UserError also for links in places that this job writes to, because another user may have made the
    folder.
    """
    work = work_dir(output)
    try:
        make_shared(output.parent)
        for folder in FOLDERS:
            # Each place is checked alone: a link in any of them would lead out of the output.
            inside(output, f"{WORK}/{folder}").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot make {work}: {error.strerror}", hint="name another folder with --output"
        ) from None

    def existing() -> Job | None:
        return load(output) if (work / JOB_FILE).exists() else None

    def make() -> None:
        # Other data would be overwritten, or mixed with ours.
        if any(output.glob("*.bin")):
            raise UserError(
                f"{output} has shards that no job of this folder made", hint="name another with --output"
            )

        write_whole(work / JOB_FILE, msgspec.json.format(msgspec.json.encode(job), indent=1))

    # Several nodes may begin at the same moment, and one of them writes the file.
    if claims(output, job).once("job", existing, make).key != job.key:
        raise UserError(
            f"{output} belongs to another job: its data set, tokenizer or options differ",
            hint=f"name another folder with --output, or delete {output}",
        )


def load(output: Path) -> Job:
    """Return the job of an output folder."""
    path = work_dir(output) / JOB_FILE
    try:
        return decode_json(read_regular(path, MOST_BYTES_OF_A_LIST), Job)
    except FileNotFoundError:
        raise UserError(f"{output} was not prepared by python -m jobctl.prep: {path} is absent") from None
    except msgspec.DecodeError as error:
        raise UserError(f"{path} is damaged: {error}", hint=f"delete {output} and start again") from None


def clear(output: Path) -> None:
    """Remove folders that are useless once the data set is whole.

    Other workers may do the same at this moment.
    """
    for folder in BULKY:
        # Errors are ignored, because another worker may remove the same files now.
        shutil.rmtree(work_dir(output) / folder, ignore_errors=True)
    for leftover in work_dir(output).rglob(".*.partial"):
        # Killed workers leave such files.
        leftover.unlink(missing_ok=True)

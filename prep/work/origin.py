"""The places of a job's text and tokenizer on this machine.

They are needed to run it, but do not change its result.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from jobctl.jobs.core.durable import write_whole
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.core.layout import tokenizer_dir
from jobctl.jobs.core.reading import MOST_BYTES_OF_A_LIST, decode_json, read_regular
from jobctl.prep.encode import tokenizers
from jobctl.prep.encode.encoders import Encoders
from jobctl.prep.sources import origins
from jobctl.prep.sources.listing import Source
from jobctl.prep.work.job import Job, work_dir

FILE = "origin.json"


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """The shared folder, and the files and folders that the user named instead of those of the data set."""

    root: str
    sources: tuple[str, ...] = ()
    ignore_unreadable: bool = False

    def find(self, job: Job) -> list[Source]:
        """List the job's source files. Raises UserError."""
        paths = [Path(source) for source in self.sources]
        return origins.find(Path(self.root), job.dataset, job.entry, paths, self.ignore_unreadable)

    def encoders(self, job: Job) -> Encoders:
        file = tokenizer_dir(Path(self.root), job.tokenizer.name) / tokenizers.FILE
        return Encoders(job.tokens, job.config.encoder, file, job.config.control_tokens)


def save(output: Path, origin: Origin) -> None:
    write_whole(work_dir(output) / FILE, msgspec.json.encode(origin))


def load(output: Path) -> Origin:
    """Return the origin of the job in ``output``. Raises UserError if it is absent or damaged."""
    path = work_dir(output) / FILE
    try:
        return decode_json(read_regular(path, MOST_BYTES_OF_A_LIST), Origin)
    except (FileNotFoundError, msgspec.DecodeError):
        raise UserError(
            f"{path} does not say where the sources are", hint="run the command that prepared the data again"
        ) from None

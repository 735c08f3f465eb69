"""Check the supplies of jobs before they are queued: space on the disk, and the hub's permission.

Without one of them, a job fails on a node hours after its submission.
"""

from __future__ import annotations

import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from jobctl.jobs import kinds
from jobctl.jobs.catalog.data import DatasetEntry, TokenizerEntry
from jobctl.jobs.catalog.loader import load_entry, names
from jobctl.jobs.core import layout
from jobctl.jobs.core.amounts import short_bytes
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.core.reading import decode_json, nearest_existing, read_regular
from jobctl.jobs.spec.job_spec import JobSpec
from jobctl.jobs.targets.registry import target_entry

MIRROR_RECORD = ".mirror.json"
"""The file in a mirror that lists the files that the mirror must have."""
HUB = "https://huggingface.co"
SECONDS = 10.0
"""Seconds for the hub to answer."""
REFUSALS = (401, 403)
"""Answers of the hub to an account that may not read."""


class MirroredFile(msgspec.Struct, frozen=True):
    """One file that a mirror must have."""

    path: str
    size: int


class MirrorRecord(msgspec.Struct, frozen=True):
    """The part of a mirror's record that jobctl reads."""

    files: tuple[MirroredFile, ...]


def is_on_the_hub(dataset: str) -> bool:
    """Return whether a data set of the catalogue must be copied from the hub before it can be prepared."""
    return dataset in names("datasets") and bool(_entry(dataset).hub)


def mirror_is_whole(folder: Path) -> bool:
    """Return whether the mirror in ``folder`` has all files of its record, each with its size."""
    try:
        record = decode_json(read_regular(folder / MIRROR_RECORD), MirrorRecord)
        return all((folder / file.path).stat().st_size == file.size for file in record.files)
    except (OSError, msgspec.MsgspecError):
        return False


def needed_bytes(spec: JobSpec) -> float:
    """Return the bytes that a job will write to the shared root; 0 if the catalogue does not know them."""
    dataset = spec.inputs.dataset
    if dataset not in names("datasets"):
        return 0.0

    entry = _entry(dataset)
    if spec.job_kind.makes == "text":
        return max(0.0, entry.bytes - _size(layout.source_dir(Path(spec.site.root), dataset)))
    if spec.job_kind.makes == "data set":
        return entry.tokens * _bytes_a_token(spec.inputs.tokenizer)

    return 0.0


def check_space(specs: Iterable[JobSpec], free: Callable[[Path], int] | None = None) -> None:
    """Raise UserError if the disk of the shared root has too little space for the output of the jobs.

    This host cannot see a cluster's volume. ``free`` returns the free bytes on a folder's disk.
    """
    seen = [spec for spec in specs if target_entry(spec.target).shares_files]
    needed = sum(map(needed_bytes, seen))
    if not needed:
        return

    root = Path(seen[0].site.root)
    available = (free or free_bytes)(root)
    if available < needed:
        raise UserError(
            f"{root} has {short_bytes(available)} free, and the jobs write about {short_bytes(needed)}",
            hint="make room (jobctl prune), name a root on another disk with JOBCTL_ROOT, or --force",
        )


def free_bytes(folder: Path) -> int:
    """Return the free bytes on the disk that contains ``folder`` or will contain it."""
    return shutil.disk_usage(nearest_existing(folder)).free


def check_licence(specs: Iterable[JobSpec], say: Callable[[str], None]) -> None:
    """Raise UserError if the hub does not give the account a tokenizer that the jobs will fetch.

    Tell ``say`` if this is unknown: without a network here, or with a token that only the job has.
    """
    fetching = [spec for spec in specs if spec.job_kind.about == kinds.TOKENIZER.about]
    for name in dict.fromkeys(spec.inputs.tokenizer for spec in fetching):
        entry = load_entry("tokenizers", name, TokenizerEntry)
        if not entry.gated:
            continue

        token = os.environ.get("HF_TOKEN", "")
        if not token and any(spec.site.secrets_file for spec in fetching):
            say(f"whether your account may read {entry.hub} is not checked: its token is in the secrets file")
            continue

        _ask_hub(entry, token, say)


def _ask_hub(entry: TokenizerEntry, token: str, say: Callable[[str], None]) -> None:
    # The hub refuses this small file to an account that may not read the tokenizer.
    address = (
        f"{os.environ.get('HF_ENDPOINT') or HUB}/{entry.hub}/resolve/{entry.revision}/tokenizer_config.json"
    )
    # HEAD, because the code of the answer is enough.
    request = urllib.request.Request(address, method="HEAD")
    if token:
        request.add_header("Authorization", f"Bearer {token}")

    try:
        urllib.request.urlopen(request, timeout=SECONDS).close()
    except urllib.error.HTTPError as error:
        if error.code not in REFUSALS:
            say(f"whether your account may read {entry.hub} is not known: the hub answers {error.code}")
            return

        why = "its licence was not accepted by the account of $HF_TOKEN" if token else "$HF_TOKEN is not set"
        raise UserError(
            f"the hub does not give you {entry.hub}: {why}",
            hint=f"accept the licence at {HUB}/{entry.hub}, then export HF_TOKEN=… of that account",
        ) from None
    except (OSError, ValueError) as error:
        # ValueError: $HF_ENDPOINT may not be an address.
        say(f"whether your account may read {entry.hub} is not known: the hub cannot be asked: {error}")


def _entry(dataset: str) -> DatasetEntry:
    return load_entry("datasets", dataset, DatasetEntry)


def _bytes_a_token(tokenizer: str) -> int:
    if tokenizer in names("tokenizers"):
        # Ids of a small vocabulary take 16 bits.
        return 2 if load_entry("tokenizers", tokenizer, TokenizerEntry).vocab_size <= 1 << 16 else 4
    return 4


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else 0

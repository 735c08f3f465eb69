"""``python -m jobctl.prep.mirror --dataset NAME --root DIR``: copy a hub data set to the shared volume.

A second start fetches only files that are missing or wrong. A file is right if it has the size on the hub;
its SHA-256 was compared when it was fetched. Prep reads the mirror, so its many workers never ask the hub. It
refuses a mirror that is not complete.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from jobctl.jobs.catalog.data import DatasetEntry
from jobctl.jobs.catalog.loader import load_entry
from jobctl.jobs.core.amounts import counted
from jobctl.jobs.core.bounds import MOST_PROCESSES
from jobctl.jobs.core.durable import make_shared, write_whole
from jobctl.jobs.core.errors import UserError, run_command
from jobctl.jobs.core.layout import source_dir
from jobctl.jobs.core.names import UnsafeName, inside, parts_of, shown
from jobctl.jobs.core.patience import retry
from jobctl.jobs.core.validation import whole_number
from jobctl.prep.sources.files import sha256_of
from jobctl.prep.sources.listing import all_patterns, matches
from jobctl.prep.sources.origins import MIRROR_FILE, HubFile, Mirrored, mirrored

TRIES = 3
"""Attempts for one file. In each, the hub's client itself resumes a broken connection up to five times."""
PAUSE = 2.0
"""Seconds before the second attempt. Each further pause is twice as long."""
FILES = 1_000_000
"""The most files that a mirror holds."""
KEPT = (MIRROR_FILE, ".cache")
"""Names of the records that the mirror and the hub's client keep in the folder."""
PATIENCE = 10
"""Files that may fail. After more failures the rest is not tried: the hub itself has a problem."""


def listing(entry: DatasetEntry, token: str | None) -> Mirrored:
    """Return the files of the data set that match its patterns, at one commit. Raises UserError in words."""
    from huggingface_hub import HfApi, errors

    page = f"https://huggingface.co/datasets/{entry.hub}"
    try:
        # With None the hub's client would send the token of a stored login.
        info = HfApi(token=token or False).dataset_info(
            entry.hub, revision=entry.revision, files_metadata=True
        )
    except errors.GatedRepoError:
        raise UserError(f"the licence of {entry.hub} was not accepted", hint=f"accept it at {page}") from None
    except errors.RepositoryNotFoundError:
        raise UserError(f"the hub knows no data set {entry.hub}", hint=f"see {page}") from None
    except Exception as error:  # also errors of its HTTP library, which change with the version
        raise UserError(f"the hub cannot be asked for {entry.hub}: {error}", code=1) from None

    files = tuple(
        HubFile(path=file.rfilename, size=file.size or 0, sha256=file.lfs.sha256 if file.lfs else "")
        for file in info.siblings or ()
        if matches(file.rfilename, all_patterns(entry))
    )

    # The names come from the hub, and they become paths of this machine.
    check_names(entry.hub or "", files)
    if not files:
        raise UserError(f"{entry.hub} has no file like {entry.patterns}", hint=f"see {page}")

    # The commit and not the branch: the branch may move while the files are fetched.
    return Mirrored(hub=entry.hub, commit=info.sha or entry.revision, files=files)


def check_names(hub: str, files: Sequence[HubFile]) -> None:
    """Raise UserError for a list that the mirror cannot hold, before anything is written or removed.

    Each name must stay in the mirror's folder, and must not be the name of one of its records.
    """
    if len(files) > FILES:
        raise UserError(
            f"{hub} lists {len(files)} files; a mirror holds {FILES}", hint="choose fewer files with patterns"
        )

    for file in files:
        try:
            first = parts_of(file.path)[0]
        except UnsafeName as error:
            raise UserError(f"the hub's list of {hub} cannot be trusted: {error.message}", code=1) from None

        if first in KEPT:
            raise UserError(f"{hub} has a file {shown(file.path)}, a name that the mirror needs", code=1)


def is_whole(path: Path, file: HubFile, hashed: bool) -> bool:
    """Return True if the file exists. With ``hashed`` read and compare it; otherwise its size is enough."""
    if not path.is_file() or path.stat().st_size != file.size:
        return False
    return not hashed or not file.sha256 or sha256_of(path) == file.sha256


def download(files: Mirrored, file: HubFile, folder: Path, token: str | None) -> None:
    """Fetch one file and check it. Raises UserError in words."""
    from huggingface_hub import hf_hub_download

    path = inside(folder, file.path)
    described = f"{file.path} of {files.hub}"

    try:
        hf_hub_download(
            files.hub,
            file.path,
            repo_type="dataset",
            revision=files.commit,
            token=token or False,
            local_dir=folder,
        )
    except Exception as error:  # as above
        raise UserError(f"{described} could not be fetched: {error}", code=1) from None

    if not is_whole(inside(folder, file.path), file, hashed=True):
        # Otherwise the next start would accept the file by its right size, in spite of wrong bytes.
        path.unlink(missing_ok=True)
        raise UserError(f"{described} came with other bytes than the hub's list says", code=1)


class Fetching:
    """Fetch the files of one data set in several threads, and remember the failures."""

    def __init__(self, files: Mirrored, folder: Path, token: str | None, check: bool) -> None:
        self.files = files
        self.folder = folder
        self.token = token
        self.check = check
        self.failed = list[UserError]()

    def fetch(self, file: HubFile) -> bool:
        """Fetch one file unless it is there. Return True if it was fetched."""
        try:
            path = inside(self.folder, file.path)
        except UnsafeName as error:
            # A link is in the place of the file.
            self.failed.append(error)
            return False

        if is_whole(path, file, hashed=self.check):
            return False

        # The hub's client may keep a file that it fetched once, whatever bytes it has now.
        path.unlink(missing_ok=True)

        if self.gives_up():
            return False

        try:
            retry(
                lambda: download(self.files, file, self.folder, self.token),
                # This is checked after each attempt: the other threads may have failed meanwhile.
                lambda error: isinstance(error, UserError) and not self.gives_up(),
                tries=TRIES,
                first_pause=PAUSE,
            )
        except UserError as error:
            self.failed.append(error)
            return False

        return True

    def gives_up(self) -> bool:
        """Return whether so many files failed that the rest is not tried."""
        return len(self.failed) > PATIENCE

    def all(self, workers: int) -> int:
        """Fetch the missing files and return their number. Raises UserError if some could not be fetched."""
        fetched = 0
        count = len(self.files.files)
        with ThreadPoolExecutor(workers) as pool:
            for number, got in enumerate(pool.map(self.fetch, self.files.files), 1):
                fetched += got
                # Files that exist already are passed in silence, for a mirror may have a million of them.
                if got or number == count:
                    print(f"{number}/{count} files", file=sys.stderr)

        if self.failed:
            more = f" (and {len(self.failed) - 1} more)" if len(self.failed) > 1 else ""
            hint = "run the same command again; fetched files are kept"
            raise UserError(self.failed[0].message + more, hint=hint, code=1)

        return fetched


def has_moved(folder: Path, files: Mirrored) -> bool:
    """Return True if the mirror holds other files, or unknown ones. Other bytes may have the same size."""
    try:
        before = mirrored(folder)
    except UserError:
        # The present files are unknown, so all of them are hashed.
        return True

    return before is not None and before.files != files.files


def mirror(
    name: str,
    entry: DatasetEntry,
    root: Path,
    workers: int = 8,
    check: bool = False,
    token_env: str = "HF_TOKEN",
) -> int:
    """Fetch the data set to ``root/sources/NAME`` and return the number of fetched files.

    ``check`` also reads and hashes the files that already exist.
    """
    if not entry.hub:
        raise UserError(f"data set '{name}' is not on the hub, so there is nothing to mirror")

    token = os.environ.get(token_env) or None
    folder = source_dir(root, name)
    files = listing(entry, token)
    # This is checked before the new record replaces the old one.
    moved = has_moved(folder, files)
    make_shared(folder.parent)
    folder.mkdir(exist_ok=True)
    # This is written before the first file: prep then knows the files of the mirror, and refuses it until
    # all exist.
    write_whole(folder / MIRROR_FILE, msgspec.json.encode(files))

    return Fetching(files, folder, token, check or moved).all(workers)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m jobctl.prep.mirror", description="Mirror a data set of the hub."
    )
    parser.add_argument("--dataset", required=True, help="a data set of the catalogue; any name with --hub")
    parser.add_argument("--hub", help="OWNER/NAME of a data set that the catalogue does not have")
    parser.add_argument("--revision", default="main", help="with --hub: a branch, a tag or a commit")
    parser.add_argument(
        "--patterns", nargs="+", default=[], metavar="X", help="with --hub: files; default: all"
    )
    parser.add_argument(
        "--root", type=Path, default=os.environ.get("JOBCTL_ROOT"), required="JOBCTL_ROOT" not in os.environ
    )
    parser.add_argument(
        "--workers", type=whole_number(1, MOST_PROCESSES), default=8, help="files fetched at once"
    )
    parser.add_argument("--check", action="store_true", help="also read and hash files that exist already")
    parser.add_argument(
        "--token-env", default="HF_TOKEN", help="environment variable that holds the hub's token"
    )
    given = parser.parse_args(arguments)
    if given.hub:
        entry = DatasetEntry(
            summary="", license="", hub=given.hub, revision=given.revision, patterns=given.patterns
        )
    else:
        entry = load_entry("datasets", given.dataset, DatasetEntry)

    fetched = mirror(given.dataset, entry, given.root, given.workers, given.check, given.token_env)
    print(
        f"{source_dir(given.root, given.dataset)}: {counted(fetched, 'file')} fetched, all equal to the hub's"
    )

    return 0


if __name__ == "__main__":
    run_command(main)

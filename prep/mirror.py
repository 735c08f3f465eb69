"""``python -m prep.mirror --dataset NAME --root DIR``: a hub data set's files on the shared volume, all and checked.

Started again it fetches only what is missing or wrong: a file is there when it has the hub's size, and its SHA-256
where the hub names one. Prep reads the mirror, so its many workers never ask the hub for anything.
"""

from __future__ import annotations

import argparse
import fnmatch
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from jobs.catalog.data import DatasetEntry
from jobs.catalog.errors import UserError, run_command
from jobs.catalog.loader import load_entry
from prep.manifest import checksum
from prep.sources import source_dir


class HubFile(NamedTuple):
    """A file of the hub's; ``sha256`` is empty for small ones, which the hub does not hash so."""

    path: str
    size: int
    sha256: str


def listing(entry: DatasetEntry, token: str | None) -> list[HubFile]:
    """The data set's files that its patterns name. Raises UserError in words."""
    from huggingface_hub import HfApi, errors

    page = f"https://huggingface.co/datasets/{entry.hub}"
    try:
        info = HfApi(token=token or False).dataset_info(
            entry.hub, revision=entry.revision, files_metadata=True
        )
    except errors.GatedRepoError:
        raise UserError(f"the licence of {entry.hub} was not accepted", hint=f"accept it at {page}") from None
    except errors.RepositoryNotFoundError:
        raise UserError(f"the hub knows no data set {entry.hub}", hint=f"see {page}") from None
    except (errors.HfHubHTTPError, OSError) as error:
        raise UserError(f"the hub cannot be asked for {entry.hub}: {error}", code=1) from None
    files = [
        HubFile(file.rfilename, file.size or 0, file.lfs.sha256 if file.lfs else "")
        for file in info.siblings or ()
        if any(fnmatch.fnmatchcase(file.rfilename, pattern) for pattern in entry.patterns or ["*"])
    ]
    if not files:
        raise UserError(f"{entry.hub} has no file like {entry.patterns}", hint=f"see {page}")
    return files


def is_whole(path: Path, file: HubFile, hashed: bool) -> bool:
    """Whether the file is there; ``hashed`` reads it, else its size is enough."""
    if not path.is_file() or path.stat().st_size != file.size:
        return False
    return not hashed or not file.sha256 or checksum(path) == file.sha256


def fetch(entry: DatasetEntry, file: HubFile, folder: Path, token: str | None) -> bool:
    """Fetch one file unless it is there, and check it; whether it was fetched."""
    from huggingface_hub import errors, hf_hub_download

    path = folder / file.path
    if is_whole(path, file, hashed=False):
        return False
    try:
        hf_hub_download(
            entry.hub,
            file.path,
            repo_type="dataset",
            revision=entry.revision,
            token=token or False,
            local_dir=folder,
        )
    except (errors.HfHubHTTPError, errors.LocalEntryNotFoundError, OSError) as error:
        hint = "what is fetched stays; run the same command again"
        raise UserError(
            f"{file.path} of {entry.hub} could not be fetched: {error}", hint=hint, code=1
        ) from None
    if not is_whole(path, file, hashed=True):
        path.unlink(missing_ok=True)
        raise UserError(
            f"{file.path} of {entry.hub} came with other bytes", hint="run the same command again", code=1
        )
    return True


def mirror(name: str, root: Path, workers: int = 8, check: bool = False, token_env: str = "HF_TOKEN") -> int:
    """Bring the data set to ``root/sources/NAME``; the number of files fetched. ``check`` reads those there too."""
    entry = load_entry("datasets", name, DatasetEntry)
    if not entry.hub:
        raise UserError(f"data set '{name}' is not on the hub, so there is nothing to mirror")
    token, folder = os.environ.get(token_env) or None, source_dir(root, name)
    files = listing(entry, token)
    folder.mkdir(parents=True, exist_ok=True)
    fetched = 0
    with ThreadPoolExecutor(workers) as pool:
        if check:
            wholes = pool.map(lambda file: is_whole(folder / file.path, file, hashed=True), files)
            for file, whole in zip(files, wholes, strict=True):
                if not whole:
                    (folder / file.path).unlink(missing_ok=True)
        for number, got in enumerate(pool.map(lambda file: fetch(entry, file, folder, token), files), 1):
            fetched += got
            if got or number == len(files):
                print(f"{number}/{len(files)} files", file=sys.stderr)
    return fetched


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m prep.mirror", description="Mirror a data set of the hub."
    )
    parser.add_argument("--dataset", required=True, help="a data set of the catalogue")
    parser.add_argument(
        "--root", type=Path, default=os.environ.get("JOBCTL_ROOT"), required="JOBCTL_ROOT" not in os.environ
    )
    parser.add_argument("--workers", type=int, default=8, help="files fetched at once")
    parser.add_argument("--check", action="store_true", help="read and hash what is there already, too")
    parser.add_argument(
        "--token-env", default="HF_TOKEN", help="environment variable that holds the hub's token"
    )
    given = parser.parse_args(arguments)
    fetched = mirror(given.dataset, given.root, given.workers, given.check, given.token_env)
    print(f"{source_dir(given.root, given.dataset)}: {fetched} files fetched, all as the hub has them")
    return 0


if __name__ == "__main__":
    run_command(main)

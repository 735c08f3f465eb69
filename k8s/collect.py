"""A run directory from the volume to this host: a tar stream, each file checked, and none fetched twice."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

from jobctl.jobs.catalog.schema import Site
from jobctl.jobs.core.errors import UserError
from jobctl.k8s import volume
from jobctl.k8s.manifest import ROOT
from jobctl.k8s.volume import BEAT, Command, reader_pod

if TYPE_CHECKING:
    from jobctl.k8s.api import Api

FRUITLESS_TRIES = 5
"""Streams in a row that may break without a byte before we give up."""
_LIST = (
    BEAT + '[ -d "$1" ] || { echo "$1 is not there; has the job begun?" >&2; exit 1; }; '
    # A file that is gone when its turn comes was an old checkpoint, and is no failure.
    'cd "$1" && find . -type f ! -path "./.pods/*" -print0 |'
    # sha256sum writes a name with a line break in it in two pieces, tr in one: no other process comes between.
    """ xargs -0 -r -n 1 -P 4 bash -o pipefail -c 'sha256sum -z -- "$0" | tr "\\0" "\\0" || [ ! -e "$0" ]'"""
)
_SEND = (
    'cd "$1" && head -c "$2" | tar --create --file=- --no-recursion --null --verbatim-files-from --files-from=-'
    " || [ $? -lt 3 ]"  # a file that has vanished or grown is no failure
)
_SEND_REST = '[ ! -e "$1" ] || exec tail -c "+$2" -- "$1"'


class Fetched:
    """What one stream brought."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.bytes = 0
        self.changed = 0
        """Files that were written to between their listing and their reading."""
        self.to_the_end = False


class Copy:
    """One run directory on its way to ``into``."""

    def __init__(self, api: Api, namespace: str, pod: str, run: str, into: Path) -> None:
        self._api, self._namespace, self._pod, self._into = api, namespace, pod, into
        self._directory = f"{ROOT}/runs/{run}"

    def listing(self) -> dict[str, str]:
        """SHA-256 of each file there, by its path in the run directory."""
        output = self._run("bash", "-c", _LIST, "list", self._directory).finish()
        entries = [entry for entry in output.decode("utf-8", "surrogateescape").split("\0") if entry]
        return {entry[66:].removeprefix("./"): entry[:64] for entry in entries}

    def missing(self, wanted: dict[str, str]) -> dict[str, str]:
        """Of the wanted files those that are not here, whole and the same."""
        return {name: digest for name, digest in wanted.items() if sha256(self._into / name) != digest}

    def fetch(self, wanted: dict[str, str]) -> Fetched:
        """What comes of the wanted files until a stream breaks: first the rest of those that are here in part."""
        fetched = Fetched()
        with contextlib.suppress(ConnectionError, tarfile.ReadError, EOFError):
            for name, digest in wanted.items():
                if (aside := _aside(self._into / name)).exists():
                    self._fetch_rest(name, digest, aside, fetched)
            self._fetch_whole({n: d for n, d in wanted.items() if n not in fetched.names}, fetched)
            fetched.to_the_end = True
        return fetched

    def _fetch_rest(self, name: str, digest: str, aside: Path, fetched: Fetched) -> None:
        command = self._run(
            "bash", "-c", _SEND_REST, "send", f"{self._directory}/{name}", str(aside.stat().st_size + 1)
        )
        with aside.open("ab") as file, contextlib.closing(command.output()) as output:
            for piece in output:
                file.write(piece)
                fetched.bytes += len(piece)
        if sha256(aside) == digest:
            aside.replace(self._into / name)
            fetched.names.add(name)
        else:  # written to meanwhile: what is here is not its beginning any more
            aside.unlink()

    def _fetch_whole(self, wanted: dict[str, str], fetched: Fetched) -> None:
        names = "".join(f"./{name}\0" for name in wanted).encode("utf-8", "surrogateescape")
        command = self._run("bash", "-c", _SEND, "send", self._directory, str(len(names)))
        with contextlib.closing(command.output()) as output:
            command.write(names)
            with tarfile.open(fileobj=_Pipe(output), mode="r|") as archive:
                for member in archive:
                    name = member.name.removeprefix("./")
                    if (content := archive.extractfile(member)) and name in wanted:
                        self._keep(content, name, wanted[name], fetched)

    def _keep(self, content: IO[bytes], name: str, digest: str, fetched: Fetched) -> None:
        """The whole of a file, or what came of it aside."""
        path = self._into / name
        path.parent.mkdir(parents=True, exist_ok=True)
        came = hashlib.sha256()
        with _aside(path).open("wb") as file:
            while block := content.read(1 << 20):
                came.update(block)
                file.write(block)
                fetched.bytes += len(block)
            file.flush()
            os.fsync(file.fileno())
        _aside(path).replace(path)
        fetched.names.add(name)
        fetched.changed += came.hexdigest() != digest

    def _run(self, *words: str) -> Command:
        return Command(self._api, self._namespace, self._pod, "reader", list(words))


def collect(api: Api, site: Site, run: str, image: str, into: Path) -> dict[str, int]:
    """Copy the run directory of ``run`` to ``into``, by a pod of ``image``; counts of files.

    Called again it goes on where it was, in the middle of a file too. Files that grow while they are read come as
    they were at that moment. Raises UserError when streams break again and again, or ``into`` cannot be written.
    """
    try:
        into.mkdir(parents=True, exist_ok=True)
        with reader_pod(api, site, run, image, _tell) as pod:
            return _collect(Copy(api, site.namespace, pod, run, into), run, into)
    except OSError as error:
        where = error.filename or into
        raise UserError(f"{where}: {error.strerror or error}", hint=_goes_on(run, into), code=1) from None


def _goes_on(run: str, into: Path) -> str:
    return f"what is here stays here: jobctl collect {run} -o {into} goes on"


def _collect(copy: Copy, run: str, into: Path) -> dict[str, int]:
    there = _patiently_listed(copy)
    missing = copy.missing(there)
    files, changed, fruitless = len(missing), 0, 0
    while missing:
        fetched = copy.fetch(missing)
        changed += fetched.changed
        missing = {name: digest for name, digest in missing.items() if name not in fetched.names}
        _tell(f"{files - len(missing)} of {files} files")
        if fetched.to_the_end:  # what has not come is not there any more: an old checkpoint, say
            break
        fruitless = 0 if fetched.bytes else fruitless + 1
        if fruitless >= FRUITLESS_TRIES:
            came = f"{files - len(missing)} of {files} files came"
            raise UserError(
                f"the connection to the volume breaks again and again; {came}",
                hint=_goes_on(run, into),
                code=1,
            )
        time.sleep(volume.POLL_SECONDS * fruitless)
    return {"files": len(there), "copied": files - len(missing), "changed": changed, "vanished": len(missing)}


def _patiently_listed(copy: Copy) -> dict[str, str]:
    for _ in range(FRUITLESS_TRIES):
        try:
            return copy.listing()
        except ConnectionError as error:
            trouble = error
        time.sleep(volume.POLL_SECONDS)
    raise UserError(f"the run directory cannot be listed: {trouble}", code=1)


def sha256(path: Path) -> str:
    """Of a file's content; empty where there is no such file."""
    if not path.is_file():
        return ""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.part")


class _Pipe(io.RawIOBase):
    """Pieces of bytes as a file that tarfile reads from."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._rest = pieces, b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._rest = piece
        size = min(len(buffer), len(self._rest))
        buffer[:size], self._rest = self._rest[:size], self._rest[size:]
        return size


def _tell(message: str) -> None:
    print(f"jobctl: {message}", file=sys.stderr, flush=True)

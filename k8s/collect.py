"""A run directory from the volume to this host: a tar stream, each file checked, and none fetched twice."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

from jobs.catalog.errors import UserError
from jobs.catalog.schema import Site
from k8s.manifest import ROOT
from k8s.resources import TRAINJOB, Object, kind_of
from k8s.volume import Command, reader_pod

if TYPE_CHECKING:
    from k8s.api import Api

FRUITLESS_TRIES = 5
"""Streams in a row that may break without a whole file before we give up."""
_LIST = 'cd "$1" && find . -type f ! -path "./.pods/*" -print0 | sort -z | xargs -0 -r sha256sum -z --'
_SEND = (
    'cd "$1" && head -c "$2" | tar --create --file=- --no-recursion --null --verbatim-files-from --files-from=-'
    " || [ $? -lt 3 ]"  # a file that has vanished or grown is no failure
)


class Fetched:
    """What one stream brought."""

    def __init__(self) -> None:
        self.names: set[str] = set()
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
        """What comes of the wanted files until the stream ends or breaks."""
        names = "".join(f"./{name}\0" for name in wanted).encode("utf-8", "surrogateescape")
        command = self._run("bash", "-c", _SEND, "send", self._directory, str(len(names)))
        fetched = Fetched()
        with contextlib.closing(command.output()) as output:
            try:
                command.write(names)
                with tarfile.open(fileobj=_Pipe(output), mode="r|") as archive:
                    for member in archive:
                        self._keep(
                            archive.extractfile(member), member.name.removeprefix("./"), wanted, fetched
                        )
                fetched.to_the_end = True
            except (ConnectionError, tarfile.ReadError, EOFError):
                pass
        return fetched

    def _keep(self, content: IO[bytes] | None, name: str, wanted: dict[str, str], fetched: Fetched) -> None:
        if content is not None and name in wanted and ".." not in Path(name).parts:
            digest = _write(content, self._into / name)
            fetched.names.add(name)
            fetched.changed += digest != wanted[name]

    def _run(self, *words: str) -> Command:
        return Command(self._api, self._namespace, self._pod, "reader", list(words))


def collect(api: Api, site: Site, run: str, job: Object, into: Path) -> dict[str, int]:
    """Copy the run directory of ``run`` to ``into``, by a pod of the image of ``job``.

    Called again it goes on where it was. Files that grow while they are read come as they were at that moment.
    Raises UserError when the stream breaks again and again.
    """
    into.mkdir(parents=True, exist_ok=True)
    with reader_pod(api, site, run, image_of(job), _tell) as pod:
        copy = Copy(api, site.namespace, pod, run, into)
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
            fruitless = 0 if fetched.names else fruitless + 1
            if fruitless >= FRUITLESS_TRIES:
                raise UserError(
                    f"the connection to {pod} breaks again and again; {files - len(missing)} of {files} files came",
                    hint=f"what is here stays here: jobctl collect {run} -o {into} goes on",
                    code=1,
                )
    return {"files": len(there), "copied": files - len(missing), "changed": changed, "vanished": len(missing)}


def _patiently_listed(copy: Copy) -> dict[str, str]:
    for _ in range(FRUITLESS_TRIES):
        try:
            return copy.listing()
        except ConnectionError as error:
            trouble = error
    raise UserError(f"the run directory cannot be listed: {trouble}", code=1)


def image_of(job: Object) -> str:
    """The image of a job's pods, which has all that reading takes."""
    spec = job["spec"]
    if kind_of(job) is TRAINJOB:
        return str(spec["trainer"]["image"])
    template = spec["template"] if "template" in spec else spec["pytorchReplicaSpecs"]["Master"]["template"]
    return str(template["spec"]["containers"][0]["image"])


def sha256(path: Path) -> str:
    """Of a file's content; empty where there is no such file."""
    if not path.is_file():
        return ""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _write(content: IO[bytes], path: Path) -> str:
    """The whole of ``content`` or nothing; its SHA-256."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.part")
    digest = hashlib.sha256()
    with aside.open("wb") as file:
        while block := content.read(1 << 20):
            digest.update(block)
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
    return digest.hexdigest()


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

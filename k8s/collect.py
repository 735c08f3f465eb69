"""Copy a run directory from the volume to this host as a tar stream. Check each file, fetch none twice."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

from jobctl.jobs.catalog.schema import Site
from jobctl.jobs.core.amounts import short_bytes
from jobctl.jobs.core.copying import aside
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.core.folder import Folder
from jobctl.jobs.core.names import UnsafeName, shown
from jobctl.jobs.core.patience import retry
from jobctl.k8s import volume
from jobctl.k8s.commands import Command
from jobctl.k8s.listing import LIST, LISTING_BYTES, Listed, Listing, parse_listing
from jobctl.k8s.manifest import ROOT
from jobctl.k8s.ownership import tell
from jobctl.k8s.volume import VolumePod, running

if TYPE_CHECKING:
    from jobctl.k8s.api import Api

FRUITLESS_TRIES = 5
"""Streams in a row that may break without a byte. After that the copy fails."""
HEADER_BYTES = 1 << 20
"""The longest name in an archive. tarfile reads all of it into memory."""
NAMED = 5
"""Refused files that are named one by one."""
_SEND = (
    'cd "$1" && head -c "$2" | tar --create --file=- --no-recursion --hard-dereference --null'
    " --verbatim-files-from --files-from=-"
    " || [ $? -lt 3 ]"  # a file that has vanished or grown is no failure
)
_SEND_REST = '[ ! -e "$1" ] || exec tail -c "+$2" -- "$1"'


class Fetched:
    """The result of one stream."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.bytes = 0
        self.changed = 0
        """Files that were written to between their listing and their reading."""
        self.to_the_end = False
        self.too_long: set[str] = set()
        """Files that are longer than they may have grown."""


class Copy:
    """One run directory on its way to ``into``."""

    def __init__(self, api: Api, namespace: str, pod: str, run: str, into: Path) -> None:
        self._api = api
        self._namespace = namespace
        self._pod = pod
        self._folder = Folder(into)
        self._directory = f"{ROOT}/runs/{run}"

    def listing(self) -> Listing:
        """Return the files of the run directory, by their names in it."""
        output = self._run("bash", "-c", LIST, "list", self._directory).finish(LISTING_BYTES)
        return parse_listing(output)

    def missing(self, listing: Listing) -> dict[str, Listed]:
        """Return the listed files that this host does not yet have whole. Refuse files behind a link."""
        missing = {}
        for name, listed in list(listing.files.items()):
            try:
                if self._folder.sha256(name) != listed.sha256:
                    missing[name] = listed
            except UnsafeName as error:
                listing.refuse(name, error.message)

        return missing

    def check_space(self, wanted: dict[str, Listed]) -> None:
        """Raise UserError if the wanted files do not fit on the disk."""
        # Parts that were fetched before need no further room.
        here = sum(self._folder.size(aside(name)) or 0 for name in wanted)
        needed = sum(listed.size for listed in wanted.values()) - here
        free = shutil.disk_usage(self._folder.path).free
        if needed > free:
            raise UserError(
                f"{self._folder.path} has {short_bytes(free)} free, the run needs {short_bytes(needed)} more",
                hint="name a folder on a larger disk with -o",
                code=1,
            )

    def fetch(self, wanted: dict[str, Listed]) -> Fetched:
        """Fetch the wanted files until a stream breaks. Begin with the rest of partly fetched files."""
        fetched = Fetched()
        with contextlib.suppress(ConnectionError, tarfile.ReadError, EOFError):
            # The parts first: a large file that broke off must not begin again with each connection.
            for name, listed in wanted.items():
                if (begun := self._folder.size(aside(name))) is not None:
                    self._fetch_rest(name, listed, begun, fetched)

            done = fetched.names | fetched.too_long
            self._fetch_whole({n: listed for n, listed in wanted.items() if n not in done}, fetched)
            fetched.to_the_end = True

        return fetched

    def _fetch_rest(self, name: str, listed: Listed, begun: int, fetched: Fetched) -> None:
        path = f"{self._directory}/{name}"
        # tail counts bytes from 1.
        command = self._run("bash", "-c", _SEND_REST, "send", path, str(begun + 1))
        size = begun

        with self._folder.append(aside(name)) as file, contextlib.closing(command.output()) as output:
            for piece in output:
                size += len(piece)
                # Checked before the write, so that a pod cannot fill the disk of this host.
                if size > listed.most:
                    fetched.too_long.add(name)
                    break

                file.write(piece)
                fetched.bytes += len(piece)

        if name not in fetched.too_long and self._folder.sha256(aside(name)) == listed.sha256:
            self._folder.replace(aside(name), name)
            fetched.names.add(name)
        else:  # somebody wrote to it meanwhile, so the local part is no longer its beginning
            self._folder.remove(aside(name))

    def _fetch_whole(self, wanted: dict[str, Listed], fetched: Fetched) -> None:
        # Behind ./ and between zero bytes, names with dashes or line breaks are nothing but names.
        names = "".join(f"./{name}\0" for name in wanted).encode("utf-8", "surrogateescape")
        # The length goes along, because nothing can close the input of a command in a pod.
        command = self._run("bash", "-c", _SEND, "send", self._directory, str(len(names)))
        with contextlib.closing(command.output()) as output:
            command.write(names)
            with tarfile.open(fileobj=_Pipe(output), mode="r|", tarinfo=BoundedHeader) as archive:
                for member in archive:
                    name = member.name.removeprefix("./")
                    if not member.isreg() or name not in wanted:  # keep only requested files
                        continue

                    if member.size > wanted[name].most:
                        fetched.too_long.add(name)
                    elif content := archive.extractfile(member):
                        self._keep(content, name, wanted[name].sha256, fetched)

    def _keep(self, content: IO[bytes], name: str, digest: str, fetched: Fetched) -> None:
        """Write a whole file. If only a part arrived, keep it in a temporary file."""
        came = hashlib.sha256()
        with self._folder.create(aside(name)) as file:
            while block := content.read(1 << 20):
                came.update(block)
                file.write(block)
                fetched.bytes += len(block)

            # On the disk before it has its name: a name means that the file is whole.
            file.flush()
            os.fsync(file.fileno())

        self._folder.replace(aside(name), name)
        fetched.names.add(name)
        fetched.changed += came.hexdigest() != digest

    def _run(self, *words: str) -> Command:
        return Command(self._api, self._namespace, self._pod, "reader", list(words))


class BoundedHeader(tarfile.TarInfo):
    """A member of an archive whose header cannot ask for more memory than a long name takes."""

    _NAMES = (
        tarfile.XHDTYPE,
        tarfile.XGLTYPE,
        tarfile.SOLARIS_XHDTYPE,
        tarfile.GNUTYPE_LONGNAME,
        tarfile.GNUTYPE_LONGLINK,
    )

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> BoundedHeader:
        """Read a header. Raises UserError for one that no tar writes."""
        header = super().frombuf(buf, encoding, errors)
        if header.size < 0 or (header.type in cls._NAMES and header.size > HEADER_BYTES):
            raise UserError(f"the pod sent an archive with a header of {header.size} bytes", code=1)
        return header


def collect(api: Api, site: Site, run: str, image: str, into: Path) -> dict[str, int]:
    """Copy the run directory of ``run`` to ``into``, by a pod of ``image``; counts of files.

    Called again it goes on where it was, in the middle of a file too. Files that grow while they are read
    come as they were at that moment. The pod's names and sizes are not believed: nothing is written outside
    ``into``, over a link, or much beyond the listed size. Raises UserError when streams break again and
    again, or ``into`` cannot be written.
    """
    try:
        into.mkdir(parents=True, exist_ok=True)
        with running(api, VolumePod(site=site, run=run, image=image), tell) as pod:
            return _collect(Copy(api, site.kubernetes.namespace, pod, run, into), run, into)
    except OSError as error:
        where = error.filename or into
        raise UserError(f"{where}: {error.strerror or error}", hint=_goes_on(run, into), code=1) from None


def _goes_on(run: str, into: Path) -> str:
    return f"the copied files are kept; jobctl collect {run} -o {into} continues"


def _cut_off(came: str, run: str, into: Path) -> UserError:
    return UserError(f"the connection to the volume keeps breaking; {came}", hint=_goes_on(run, into), code=1)


def _collect(copy: Copy, run: str, into: Path) -> dict[str, int]:
    listing = _patiently_listed(copy)
    missing = copy.missing(listing)
    # Before the first byte: a full disk after hours helps nobody.
    copy.check_space(missing)
    files = len(missing)
    changed = 0
    fruitless = 0

    while missing:
        fetched = copy.fetch(missing)
        changed += fetched.changed
        for name in fetched.too_long:
            listing.refuse(name, f"{shown(name)} is longer than the pod's list says")

        files -= len(fetched.too_long)
        done = fetched.names | fetched.too_long
        missing = {name: listed for name, listed in missing.items() if name not in done}
        tell(f"{files - len(missing)} of {files} files")
        if fetched.to_the_end:  # a missing file was removed meanwhile, for example an old checkpoint
            break

        # A connection that brings some bytes each time gets to the end, however often it breaks.
        fruitless = 0 if fetched.bytes else fruitless + 1
        if fruitless >= FRUITLESS_TRIES:
            came = f"{files - len(missing)} of {files} files are copied"
            raise _cut_off(came, run, into)

        # The pauses grow as long as nothing arrives.
        time.sleep(volume.POLL_SECONDS * fruitless)

    _tell_refused(listing.refused)

    return {
        "files": len(listing.files),
        "copied": files - len(missing),
        "changed": changed,
        "vanished": len(missing),
        "refused": len(listing.refused),
    }


def _tell_refused(reasons: list[str]) -> None:
    for reason in reasons[:NAMED]:
        tell(f"refused: {reason}")
    if len(reasons) > NAMED:
        tell(f"refused: {len(reasons) - NAMED} more")


def _patiently_listed(copy: Copy) -> Listing:
    try:
        return retry(
            copy.listing,
            lambda error: isinstance(error, ConnectionError),
            tries=FRUITLESS_TRIES,
            first_pause=volume.POLL_SECONDS,
        )
    except ConnectionError as error:
        raise UserError(f"the run directory cannot be listed: {error}", code=1) from None


class _Pipe(io.RawIOBase):
    """Pieces of bytes as a file that tarfile reads from."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0

            self._rest = piece

        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]

        return size

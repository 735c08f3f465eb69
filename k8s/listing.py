"""The files of a run directory as a pod lists them: names and sizes that are checked before they are used."""

from __future__ import annotations

import re

import msgspec

from jobctl.jobs.core.copying import FILES, aside
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.core.names import UnsafeName, parts_of, shown
from jobctl.k8s.commands import BEAT

GROWTH_BYTES = 1 << 30
"""Bytes by which a file may grow between its listing and its reading. A longer one is refused."""
LISTING_BYTES = 256 << 20
"""The most bytes that a pod may print as its list."""
LIST = (
    BEAT + '[ -d "$1" ] || { echo "$1 does not exist; has the job begun?" >&2; exit 1; }; '
    # A file that was removed meanwhile was an old checkpoint, and is not a failure.
    """cd "$1" && find . -type f ! -path "./.pods/*" -printf '%s %p\\0' |"""
    # printf writes a name with a line break in it in two pieces, tr in one: no other process comes between.
    """ xargs -0 -r -n 1 -P 4 bash -c 'name=${0#* }; { sum=$(sha256sum <"$name") &&"""
    """ printf "%s %s  %s\\0" "${0%% *}" "${sum%% *}" "$name" | tr "\\0" "\\0"; } || [ ! -e "$name" ]'"""
)
_ENTRY = re.compile(r"(\d{1,15}) ([0-9a-f]{64})  (.+)", re.DOTALL)
"""Size, SHA-256 and name: the pod's line about a file."""


class Listed(msgspec.Struct, frozen=True):
    """A file as the pod lists it. The file may differ later: a program writes it, or the pod lies."""

    size: int
    sha256: str

    @property
    def most(self) -> int:
        """Return the most bytes that are accepted for it."""
        return self.size + GROWTH_BYTES


class Listing(msgspec.Struct):
    """The list of the pod. ``refused`` has a line for each entry that was refused."""

    files: dict[str, Listed] = {}
    refused: list[str] = []

    def refuse(self, name: str, reason: str) -> None:
        self.files.pop(name, None)
        self.refused.append(reason)


def parse_listing(output: bytes) -> Listing:
    """Read the list that the pod printed. Refuse each unsafe name, and accept the others.

    Raises UserError for more files than a run can have.
    """
    listing = Listing()
    # Zero bytes separate the entries, because no name can have one.
    entries = [entry for entry in output.split(b"\0") if entry]
    if len(entries) > FILES:
        raise UserError(f"the pod lists {len(entries)} files; at most {FILES} are taken", code=1)

    for entry in entries:
        # The name of a file need not be UTF-8.
        match = _ENTRY.fullmatch(entry.decode("utf-8", "surrogateescape"))
        if match is None:
            listing.refused.append(f"an entry of the pod's list is not one: {shown(repr(entry[:60]))}")
            continue

        name = match[3].removeprefix("./")

        try:
            parts_of(name)
            # The file is first written under this name, so it must be safe as well.
            parts_of(aside(name))
        except UnsafeName as error:
            listing.refused.append(error.message)
        else:
            listing.files[name] = Listed(int(match[1]), match[2])

    return listing

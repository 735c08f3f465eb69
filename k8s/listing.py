"""The files of a run directory as a pod lists them: names and sizes that are checked before they are used."""

from __future__ import annotations

import re

import msgspec

from jobctl.jobs.core.copying import FILES, aside
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.core.names import UnsafeName, parts_of, shown
from jobctl.k8s.commands import BEAT

GROWTH_BYTES = 1 << 30
"""How much a file may have grown between its listing and its reading; a longer one is refused."""
LISTING_BYTES = 256 << 20
"""The most that a pod may print as its list."""
LIST = (
    BEAT + '[ -d "$1" ] || { echo "$1 is not there; has the job begun?" >&2; exit 1; }; '
    # A file that is gone when its turn comes was an old checkpoint, and is no failure.
    """cd "$1" && find . -type f ! -path "./.pods/*" -printf '%s %p\\0' |"""
    # printf writes a name with a line break in it in two pieces, tr in one: no other process comes between.
    """ xargs -0 -r -n 1 -P 4 bash -c 'name=${0#* }; { sum=$(sha256sum <"$name") &&"""
    """ printf "%s %s  %s\\0" "${0%% *}" "${sum%% *}" "$name" | tr "\\0" "\\0"; } || [ ! -e "$name" ]'"""
)
_ENTRY = re.compile(r"(\d{1,15}) ([0-9a-f]{64})  (.+)", re.DOTALL)
"""Size, SHA-256 and name: what the pod says of a file."""


class Listed(msgspec.Struct, frozen=True):
    """A file as the pod lists it. Another size or content may come: it was written to, or the pod lies."""

    size: int
    sha256: str

    @property
    def most(self) -> int:
        """The most bytes that are taken for it."""
        return self.size + GROWTH_BYTES


class Listing(msgspec.Struct):
    """What the pod says is there. ``refused`` has a line for each entry that was not taken."""

    files: dict[str, Listed] = {}
    refused: list[str] = []

    def refuse(self, name: str, reason: str) -> None:
        self.files.pop(name, None)
        self.refused.append(reason)


def parse_listing(output: bytes) -> Listing:
    """Read what the pod printed. A name that is not safe is refused, the others are taken.

    Raises UserError for more files than a run can have.
    """
    listing = Listing()
    entries = [entry for entry in output.split(b"\0") if entry]
    if len(entries) > FILES:
        raise UserError(f"the pod lists {len(entries)} files; at most {FILES} are taken", code=1)

    for entry in entries:
        match = _ENTRY.fullmatch(entry.decode("utf-8", "surrogateescape"))
        if match is None:
            listing.refused.append(f"an entry of the pod's list is not one: {shown(repr(entry[:60]))}")
            continue

        name = match[3].removeprefix("./")

        try:
            parts_of(name)
            parts_of(aside(name))
        except UnsafeName as error:
            listing.refused.append(error.message)
        else:
            listing.files[name] = Listed(int(match[1]), match[2])

    return listing

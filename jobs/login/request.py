"""A request from one jobctl to another: a command line, and the files that it names."""

from __future__ import annotations

import base64
import binascii
import zlib

import msgspec

from jobctl.jobs.core.errors import UserError

MOST_BYTES = 256 << 20
"""The longest request, in bytes. It names each file of a copy that is already here."""


class Version(msgspec.Struct, frozen=True):
    """The part of a request that every version of jobctl can read."""

    version: str


class Copy(msgspec.Struct, frozen=True, kw_only=True):
    """A request for the files of a run."""

    run: str
    target: str | None = None
    site: str | None = None
    here: dict[str, tuple[int, int]] = {}
    """The size and time, in nanoseconds, of each file that is already here."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One request: the ``words`` of a command line, or a ``copy``."""

    version: str
    words: tuple[str, ...] = ()
    copy: Copy | None = None
    texts: dict[str, str | None] = {}
    """Files of the asking machine by their paths there. null: it has no file at this path."""
    revision: str | None = None
    """The revision of the asking source, if it is a checkout and the answer may depend on it."""
    acts: bool = False
    """True for a command that changes something. It continues to its end even if the connection breaks."""


def encode(request: Request) -> bytes:
    """Return the request as one word of letters and digits, which no shell changes.

    Raises UserError for words that are not text.
    """
    try:
        return base64.urlsafe_b64encode(zlib.compress(msgspec.json.encode(request)))
    except UnicodeEncodeError:
        raise UserError("the command line has bytes that are no text, which cannot be sent") from None


def decode(word: bytes, version: str) -> Request:
    """Return the request. Raises UserError for an incomplete one, and for one of another ``version``."""
    try:
        unpacker = zlib.decompressobj()
        # Use a limit: a short request may unpack to more than the memory.
        text = unpacker.decompress(base64.urlsafe_b64decode(word.strip()), MOST_BYTES)
        if not unpacker.eof:
            raise ValueError("it is cut off, or too long")

        # Read the version first: a request of another version may have other fields.
        asking = msgspec.json.decode(text, type=Version).version
        if asking != version:
            raise UserError(
                f"jobctl is {version} on the login node and {asking} on your machine",
                hint="install the same version on both",
            )

        return msgspec.json.decode(text, type=Request)
    except (binascii.Error, zlib.error, ValueError, msgspec.MsgspecError) as error:
        raise UserError(f"no request of another jobctl: {error}", hint="jobctl --help") from None

"""Letters and digits that Unicode 17 added. gigatoken knows them, the reference does not.

gigatoken would split words differently at them. A text with one of them goes to the reference.
"""

from __future__ import annotations

import re
import sys

import numpy as np

NEW_RANGES = [
    (0x0088F, 0x0088F),
    (0x00C5C, 0x00C5C),
    (0x00CDC, 0x00CDC),
    (0x0A7CE, 0x0A7CF),
    (0x0A7D2, 0x0A7D2),
    (0x0A7D4, 0x0A7D4),
    (0x0A7F1, 0x0A7F1),
    (0x10940, 0x10959),
    (0x10EC5, 0x10EC7),
    (0x11DB0, 0x11DDB),
    (0x11DE0, 0x11DE9),
    (0x16EA0, 0x16EB8),
    (0x16EBB, 0x16ED3),
    (0x16FF2, 0x16FF6),
    (0x187F8, 0x187FF),
    (0x18D09, 0x18D1E),
    (0x18D80, 0x18DF2),
    (0x1E6C0, 0x1E6DE),
    (0x1E6E0, 0x1E6E2),
    (0x1E6E4, 0x1E6E5),
    (0x1E6E7, 0x1E6ED),
    (0x1E6F0, 0x1E6F4),
    (0x1E6FE, 0x1E6FF),
    (0x2B73A, 0x2B73F),
    (0x2CEA2, 0x2CEAD),
    (0x323B0, 0x33479),
]
"""First and last code points of the new letters and digits."""
NEW_FIRST_BYTES = (b"\xf0", b"\xe0", b"\xea")
"""First bytes of their UTF-8. Most texts have none of these bytes, which is fast to see."""
SHORT = 512
"""Up to this many bytes a search for first bytes of new characters beats a look at each code point."""


def _prefixes() -> bytes:
    """Return a pattern of the UTF-8 of all new characters, each without its last byte."""
    last_bytes: dict[bytes, set[bytes]] = {}
    for first, last in NEW_RANGES:
        for code in range(first, last + 1):
            data = chr(code).encode()
            last_bytes.setdefault(data[:-2], set()).add(data[-2:-1])

    # Grouped by first byte, so that the search tries only a few branches at each place.
    branches: dict[bytes, list[bytes]] = {}
    for before, ends in last_bytes.items():
        characters = b"".join(re.escape(end) for end in sorted(ends))
        branches.setdefault(before[:1], []).append(re.escape(before[1:]) + b"[" + characters + b"]")

    return b"|".join(re.escape(lead) + b"(?:" + b"|".join(rest) + b")" for lead, rest in branches.items())


MAY_BE_NEW = re.compile(_prefixes())
"""Finds the beginning of a new character's UTF-8. A few old characters begin like one."""


def _table() -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    table = np.zeros(sys.maxunicode + 1, np.bool_)
    for first, last in NEW_RANGES:
        table[first : last + 1] = True
    return table


NEW = _table()
"""True at each new code point, shape [code points]."""


def has_new(data: bytes) -> bool:
    """Return True if UTF-8 has a new character."""
    first, second, third = NEW_FIRST_BYTES
    if not (first in data or second in data or third in data):
        return False

    if len(data) <= SHORT and not MAY_BE_NEW.search(data):
        return False

    # One number for each character, with which the table is read.
    codes = np.frombuffer(data.decode().encode("utf-32-le"), "<u4")

    return bool(NEW[codes].any())

"""Find documents that repeat an earlier one, over all units: with the same text, or with nearly the same words.

Every document has keys: a hash of its text, and for near-duplicates one key for each band of its MinHash signature
(Broder, 1997; banding as Leskovec, Rajaraman and Ullman describe it). A document that shares a key with an earlier one
is left out. "Earlier" is the order of the manifest, so the result depends on nothing else. Keys are compared through
sorted runs, so memory does not grow with the data.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import xxhash

from jobctl.jobs.core.errors import UserError
from jobctl.prep.shards.sorted_runs import Columns, between, edges, run_file, write_run

PERMUTATIONS = 128
BANDS = 16
SEED = 1
"""Each band has 8 rows. Two texts whose word 5-grams overlap by s share a key with probability
1 - (1 - s^8)^16: 0.06 at 0.5, 0.62 at 0.7, 0.95 at 0.8, nearly 1 at 0.9."""
SHINGLE = 5
"""The number of words in a piece of text that is compared."""
WORD = re.compile(r"[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff]|[^\W\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff]+")
"""A run of letters and digits. In scripts without spaces each character is a word."""
TAKEN = 1 << 16
"""The number of words that are hashed in one call."""
KEYS_A_RUN = 1 << 19
KEYS_A_PART = 1 << 21
EXACT = 0
NEAR = 1
LOWER = (1 << 64) - 1
REASONS = ("duplicate", "near-duplicate")


def place(unit: int, number: int, kind: int) -> int:
    """Return a document's place in the job and the kind of its match as one number.

    It sorts by place first.
    """
    # 24 bits for the unit, 39 for its document, one for the kind.
    return unit << 40 | number << 1 | kind


def shingles(text: str) -> Iterator[list[str]]:
    """Yield the 5-grams of a text's words in lists. A text of fewer words is one piece."""
    words = (match.group() for match in WORD.finditer(text.lower()))
    last = list(itertools.islice(words, SHINGLE - 1))
    more = list(itertools.islice(words, TAKEN))
    if last and not more:
        yield [" ".join(last)]

    while more:
        # The last four words of a list begin pieces that end in the next one.
        tokens = last + more
        yield [" ".join(tokens[i : i + SHINGLE]) for i in range(len(tokens) - SHINGLE + 1)]
        last = tokens[1 - SHINGLE :]
        more = list(itertools.islice(words, TAKEN))


def band_keys(text: str) -> list[int]:
    """Return a 128-bit key for each band, or none for a text without words.

    Raises UserError without rensa.
    """
    try:
        from rensa import RMinHash
    except ImportError:
        raise UserError(
            "removing near-duplicates needs the Python package 'rensa'", hint="pip install rensa"
        ) from None

    sketch = RMinHash(num_perm=PERMUTATIONS, seed=SEED)
    empty = True

    for some in shingles(text):
        sketch.update(some)
        empty = False

    if empty:
        return []

    # Little-endian, so that the keys are the same on every machine.
    bands = np.array(sketch.digest(), dtype="<u4").reshape(BANDS, -1)

    # With the band's number in front, equal rows in different bands are no match.
    return [xxhash.xxh3_128_intdigest(bytes([index]) + band.tobytes()) for index, band in enumerate(bands)]


class KeyWriter:
    """Write the keys of one unit's documents as runs into ``folder``."""

    def __init__(self, folder: Path, unit: int) -> None:
        self._folder = folder
        self._unit = unit
        self._keys = list[int]()
        self._places = list[int]()
        self.runs = 0
        self.keys = 0
        self.documents = 0

    def add(self, digest: int, bands: Sequence[int]) -> None:
        """Add the next document: the hash of its text, and the keys of its bands."""
        self._keys += [digest, *bands]
        self._places.append(place(self._unit, self.documents, EXACT))
        self._places += [place(self._unit, self.documents, NEAR)] * len(bands)
        self.documents += 1
        if len(self._keys) >= KEYS_A_RUN:
            self.flush()

    def flush(self) -> None:
        """Write the keys that were added since the last run."""
        if not self._keys:
            return

        upper = [key >> 64 for key in self._keys]
        lower = [key & LOWER for key in self._keys]
        columns = np.array([upper, lower, self._places], np.uint64)
        # Stable, so that the file has the same bytes in every run.
        columns = columns[:, np.argsort(columns[0], kind="stable")]
        write_run(run_file(self._folder, self._unit, self.runs), columns)
        self.runs = self.runs + 1
        self.keys = self.keys + len(self._keys)
        self._keys = []
        self._places = []


def parts_of(keys: int) -> int:
    """Return the number of parts in which ``keys`` keys are compared; 0 for no keys."""
    return -(-keys // KEYS_A_PART)


def repeated(columns: Columns) -> Columns:
    """Return the places whose key an earlier place has, sorted.

    Columns are the halves of the key, and the place.
    """
    # lexsort goes by its last key first: by the key's upper half, then its lower half, then the place.
    columns = columns[:, np.lexsort((columns[2], columns[1], columns[0]))]
    # After the sorting equal keys are neighbours.
    same = (columns[:2, 1:] == columns[:2, :-1]).all(axis=0)
    return np.unique(columns[2, 1:][same])


def match(runs: Sequence[Path], target: Path, part: int, parts: int) -> int:
    """Compare one part of all keys, and write the places of repeated documents. Return the number of keys."""
    low, high = edges(part, parts)
    columns = between(iter(runs), low, high)
    write_run(target, repeated(columns)[None])
    return int(columns.shape[1])


class Repeated:
    """The documents of one unit that repeat an earlier one."""

    def __init__(self, parts: Sequence[Path], unit: int) -> None:
        # An empty first array keeps the type right for a unit without matches.
        matched = [np.empty(0, np.uint64)]
        for path in parts:
            places = np.load(path, mmap_mode="r")[0]
            # A unit's places are neighbours, because the unit is the upper part of each number.
            begin, end = np.searchsorted(
                places, [np.uint64(place(unit, 0, 0)), np.uint64(place(unit + 1, 0, 0))]
            )
            matched.append(np.array(places[begin:end]))

        numbers = np.unique(np.concatenate(matched)) - np.uint64(place(unit, 0, 0))
        self._numbers: npt.NDArray[np.int64] = numbers.astype(np.int64)

    def reasons(self, first: int, count: int) -> dict[int, str]:
        """Return the documents to leave out among the ``count`` from ``first`` on, each with the reason."""
        # The lowest bit of a number is the kind of its match.
        begin, end = np.searchsorted(self._numbers, [first << 1, (first + count) << 1])
        repeated_numbers = self._numbers[begin:end].tolist()

        # EXACT sorts before NEAR. Read backward, it is the last one of its document, and wins.
        return {number >> 1: REASONS[number & 1] for number in reversed(repeated_numbers)}

"""Which documents repeat an earlier one, found over all units: the same text, or nearly the same words.

Every document has keys: a hash of its text, and for near-duplicates one for each band of its MinHash signature
(Broder, 1997; banding as Leskovec, Rajaraman and Ullman describe it). A document that shares a key with an
earlier one is left out; "earlier" is the order of the manifest, so the result hangs on nothing else. Keys are put
together through sorted runs, so memory does not grow with the data.
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
"""Rows a band: 8. Two texts whose word 5-grams overlap by s share a key with probability 1 - (1 - s^8)^16:
0.06 at 0.5, 0.62 at 0.7, 0.95 at 0.8, nearly 1 at 0.9."""
SHINGLE = 5
WORD = re.compile(r"[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff]|[^\W\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff]+")
"""A run of letters and digits; in scripts without spaces each character is one."""
TAKEN = 1 << 16
"""Words that are hashed at once."""
KEYS_A_RUN = 1 << 19
KEYS_A_PART = 1 << 21
EXACT = 0
NEAR = 1
LOWER = (1 << 64) - 1
REASONS = ("duplicate", "near-duplicate")


def place(unit: int, number: int, kind: int) -> int:
    """A document's place in the job, and how it was matched, in one number that sorts by the former."""
    return unit << 40 | number << 1 | kind


def shingles(text: str) -> Iterator[list[str]]:
    """The text's word 5-grams, some at a time; a text of fewer words is one."""
    words = (match.group() for match in WORD.finditer(text.lower()))
    last = list(itertools.islice(words, SHINGLE - 1))
    more = list(itertools.islice(words, TAKEN))
    if last and not more:
        yield [" ".join(last)]

    while more:
        found = last + more
        yield [" ".join(found[i : i + SHINGLE]) for i in range(len(found) - SHINGLE + 1)]
        last = found[1 - SHINGLE :]
        more = list(itertools.islice(words, TAKEN))


def band_keys(text: str) -> list[int]:
    """A 128-bit key for each band; none for a text without a word. Raises UserError without rensa."""
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

    bands = np.array(sketch.digest(), dtype="<u4").reshape(BANDS, -1)

    return [xxhash.xxh3_128_intdigest(bytes([index]) + band.tobytes()) for index, band in enumerate(bands)]


class KeyWriter:
    """The keys of one unit's documents, as runs in ``folder``."""

    def __init__(self, folder: Path, unit: int) -> None:
        self._folder = folder
        self._unit = unit
        self._keys = list[int]()
        self._places = list[int]()
        self.runs = self.keys = self.documents = 0

    def add(self, digest: int, bands: Sequence[int]) -> None:
        """The next document: the hash of its text, and the keys of its bands."""
        self._keys += [digest, *bands]
        self._places.append(place(self._unit, self.documents, EXACT))
        self._places += [place(self._unit, self.documents, NEAR)] * len(bands)
        self.documents += 1
        if len(self._keys) >= KEYS_A_RUN:
            self.flush()

    def flush(self) -> None:
        """Write what was added since the last run."""
        if not self._keys:
            return

        upper = [key >> 64 for key in self._keys]
        lower = [key & LOWER for key in self._keys]
        columns = np.array([upper, lower, self._places], np.uint64)
        columns = columns[:, np.argsort(columns[0], kind="stable")]
        write_run(run_file(self._folder, self._unit, self.runs), columns)
        self.runs = self.runs + 1
        self.keys = self.keys + len(self._keys)
        self._keys = []
        self._places = []


def parts_of(keys: int) -> int:
    """How many parts so many keys are looked through in; no key needs none."""
    return -(-keys // KEYS_A_PART)


def repeated(columns: Columns) -> Columns:
    """Places whose key an earlier place has, sorted; columns are the key's halves and the place."""
    columns = columns[:, np.lexsort((columns[2], columns[1], columns[0]))]
    same = (columns[:2, 1:] == columns[:2, :-1]).all(axis=0)
    return np.unique(columns[2, 1:][same])


def match(runs: Sequence[Path], target: Path, part: int, parts: int) -> int:
    """Look through one part of all keys; write the places of repeated documents. Returns the number of keys."""
    low, high = edges(part, parts)
    columns = between(iter(runs), low, high)
    write_run(target, repeated(columns)[None])
    return int(columns.shape[1])


class Repeated:
    """The documents of one unit that repeat an earlier one."""

    def __init__(self, parts: Sequence[Path], unit: int) -> None:
        found = [np.empty(0, np.uint64)]
        for path in parts:
            places = np.load(path, mmap_mode="r")[0]
            begin, end = np.searchsorted(
                places, [np.uint64(place(unit, 0, 0)), np.uint64(place(unit + 1, 0, 0))]
            )
            found.append(np.array(places[begin:end]))

        numbers = np.unique(np.concatenate(found)) - np.uint64(place(unit, 0, 0))
        self._numbers: npt.NDArray[np.int64] = numbers.astype(np.int64)

    def reasons(self, first: int, count: int) -> dict[int, str]:
        """Of the ``count`` documents from ``first`` on, those that are left out, and why."""
        begin, end = np.searchsorted(self._numbers, [first << 1, (first + count) << 1])
        found = self._numbers[begin:end].tolist()
        return {
            number >> 1: REASONS[number & 1] for number in reversed(found)
        }  # EXACT comes before NEAR, and wins

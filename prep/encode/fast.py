"""The fast encoders. They are used only for tokenizers for which tests prove them equal to the reference."""

from __future__ import annotations

import itertools
import resource
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jobctl.jobs.catalog.data import EncoderName
from jobctl.prep.encode.identity import brought_into_nfc
from jobctl.prep.encode.look import Look, looks_of
from jobctl.prep.encode.tokenizer_file import TokenizerFile
from jobctl.prep.shards.format import Ids

CACHE = 128 << 20
"""A worker may grow by this many bytes. Then gigatoken's cache of words is dropped."""
RENEW_AFTER = 1 << 24
"""The fewest characters between two renewals. A renewal costs LLaMA-3 half a second."""
WARM = 1 << 22
"""Characters after which the memory of a worker is measured for the first time.

Their words take about 150 MB if none of them repeats, and 3 MB in English.
"""


class FastokensEncoder:
    """``fastokens``: BPE with a bounded cache.

    It returns flat buffers instead of one Python object for each token.
    """

    name: EncoderName = "fastokens"

    def __init__(self, file: TokenizerFile) -> None:
        from fastokens import Tokenizer  # type: ignore[import-untyped]

        self._tokenizer = Tokenizer.from_json_str(file.for_reference())
        # The file may ask to cut long texts, but documents must stay whole.
        self._tokenizer.no_truncation()

    def encode(self, texts: Sequence[str], looks: Sequence[Look] = ()) -> list[Ids]:
        flat, offsets = self._tokenizer.encode_batch_flat(
            list(texts), add_special_tokens=False, split_special_tokens=True
        )
        ids = np.frombuffer(flat, "<u4")
        places = np.frombuffer(offsets, "<u8").tolist()
        return [ids[begin:end] for begin, end in itertools.pairwise(places)]


def resident() -> int:
    """Return the memory of this process in bytes, or its peak on systems that report only that."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def in_nfc(texts: Sequence[str], looks: Sequence[Look]) -> list[str | bytes]:
    """Return the UTF-8, or else the text itself, of each text in NFC, and the reference's NFC of each other."""
    # A look may have dropped its facts about a long text. Then it says nothing about the text.
    return [
        (seen.data or text) if seen.is_nfc else (seen.nfc or brought_into_nfc(text))
        for text, seen in zip(texts, looks, strict=True)
    ]


class GigatokenEncoder:
    """``gigatoken``: the fastest encoder. Its cache of words has no bound, so a large cache is dropped.

    The few texts that are not in NFC are normalised first (see ``TokenizerFile.for_gigatoken``).
    """

    name: EncoderName = "gigatoken"

    def __init__(self, file: TokenizerFile) -> None:
        self._nfc = file.is_nfc
        self._json = file.for_gigatoken()
        self._warm = 0
        self._renew()

    def _renew(self) -> None:
        from gigatoken import Tokenizer

        self._encode = Tokenizer.from_json(self._json).backend.encode
        self._seen = 0

    def encode(self, texts: Sequence[str], looks: Sequence[Look] = ()) -> list[Ids]:
        self._bound_cache()
        self._seen += sum(map(len, texts))

        given: Sequence[str | bytes] = texts
        if self._nfc:
            given = in_nfc(texts, looks_of(texts, looks))
        elif looks:
            given = [seen.data or text for text, seen in zip(texts, looks, strict=True)]

        return [self._encode(text) for text in given]

    def _bound_cache(self) -> None:
        # The first texts fill the cache and the allocator's pools. Only growth beyond that is the cache's
        # fault.
        if self._seen > WARM and not self._warm:
            self._warm = resident()
        if self._seen > RENEW_AFTER and resident() - self._warm > CACHE:
            self._renew()

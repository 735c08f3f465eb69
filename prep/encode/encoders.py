"""Encoders: text to token ids. The fast ones are used only where they are proven equal to the reference.

The reference is the library behind ``transformers``' own tokenizer classes (``tokenizers``) on the
tokenizer's ``tokenizer.json``, with special-token strings in the text treated as text, which ``transformers``
calls ``split_special_tokens=True``.
"""

from __future__ import annotations

import functools
import itertools
import re
import resource
import sys
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from jobctl.jobs.catalog.data import EncoderName, TokenizerEntry
from jobctl.jobs.core.errors import UserError

Ids = npt.NDArray[np.uint32]
PART = 4 << 20
"""Characters that are encoded at once; a longer text is cut."""
CACHE = 128 << 20
"""Bytes that a worker may grow by before gigatoken's cache is thrown away."""
RENEW_AFTER, WARM = 1 << 24, 1 << 22
"""Characters between two times at least, for it costs LLaMA-3 half a second, and those after which one can tell what a
worker needs without the cache. Of words that never come again these make some 150 MB, of English three."""
UNBROKEN = 4_000_000
"""Characters without a place to cut that are still taken: BPE needs some 55 bytes for each."""
CUT = re.compile("(?<=[A-Za-z]) (?=[A-Za-z])")
NEW_RANGES = [
    (0x0088f, 0x0088f), (0x00c5c, 0x00c5c), (0x00cdc, 0x00cdc), (0x0a7ce, 0x0a7cf), (0x0a7d2, 0x0a7d2),
    (0x0a7d4, 0x0a7d4), (0x0a7f1, 0x0a7f1), (0x10940, 0x10959), (0x10ec5, 0x10ec7), (0x11db0, 0x11ddb),
    (0x11de0, 0x11de9), (0x16ea0, 0x16eb8), (0x16ebb, 0x16ed3), (0x16ff2, 0x16ff6), (0x187f8, 0x187ff),
    (0x18d09, 0x18d1e), (0x18d80, 0x18df2), (0x1e6c0, 0x1e6de), (0x1e6e0, 0x1e6e2), (0x1e6e4, 0x1e6e5),
    (0x1e6e7, 0x1e6ed), (0x1e6f0, 0x1e6f4), (0x1e6fe, 0x1e6ff), (0x2b73a, 0x2b73f), (0x2cea2, 0x2cead),
    (0x323b0, 0x33479),
]  # fmt: skip
NEW = np.zeros(sys.maxunicode + 1, bool)
"""Which code points are letters and digits of Unicode 17. gigatoken takes them for such where it splits a text, the
reference, with Unicode 16, does not."""
for _first, _last in NEW_RANGES:
    NEW[_first : _last + 1] = True
NEW_BEGIN = (b"\xf0", b"\xe0", b"\xea")
"""How the UTF-8 of each of them begins; that a text has none of these is seen at once."""


class Encoder(Protocol):
    """Anything that gives each of a batch of texts its ids, without BOS, EOS or other additions.

    ``data`` are the texts in UTF-8, for an encoder that would have to make them; it may lack those longer than PART.
    """

    name: EncoderName

    def encode(self, texts: Sequence[str], data: Sequence[bytes] = ()) -> list[Ids]: ...


class ReferenceEncoder:
    """Hugging Face ``tokenizers``: what every other encoder is measured against."""

    name: EncoderName = "tokenizers"

    def __init__(self, file: Path) -> None:
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(str(file))
        self._tokenizer.encode_special_tokens = True
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def encode(self, texts: Sequence[str], data: Sequence[bytes] = ()) -> list[Ids]:
        encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.array(encoding.ids, dtype=np.uint32) for encoding in encodings]

    def ids(self, text: str) -> list[int]:
        """Of one text, without the threads that ``encode`` starts: a process that has those cannot be forked."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids, with special tokens shown."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=False)
        return text

    @property
    def vocab_size(self) -> int:
        """The largest id and one, added tokens included; the model's own ids have no holes."""
        own = self._tokenizer.get_vocab_size(with_added_tokens=False)
        return max([own - 1, *self._tokenizer.get_added_tokens_decoder()]) + 1


class FastokensEncoder:
    """``fastokens``: BPE with a bounded cache; gives flat buffers, so no Python object a token."""

    name: EncoderName = "fastokens"

    def __init__(self, file: Path) -> None:
        from fastokens import Tokenizer  # type: ignore[import-untyped]

        self._tokenizer = Tokenizer.from_file(str(file))
        self._tokenizer.no_truncation()

    def encode(self, texts: Sequence[str], data: Sequence[bytes] = ()) -> list[Ids]:
        flat, offsets = self._tokenizer.encode_batch_flat(
            list(texts), add_special_tokens=False, split_special_tokens=True
        )
        ids, places = np.frombuffer(flat, "<u4"), np.frombuffer(offsets, "<u8").tolist()
        return [ids[begin:end] for begin, end in itertools.pairwise(places)]


def resident() -> int:
    """Bytes of memory that this process has now; on systems that do not say, the most that it ever had."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def in_nfc(texts: Sequence[str], given: Sequence[str | bytes]) -> list[str | bytes]:
    """What is ``given`` for each text where that is in NFC, and else its NFC by the reference.

    Python's Unicode is at least as new as the reference's, so what it says is in NFC the reference leaves as it is.
    """
    from tokenizers.normalizers import NFC

    return [
        datum if unicodedata.is_normalized("NFC", text) else NFC().normalize_str(text)
        for text, datum in zip(texts, given, strict=True)
    ]


class GigatokenEncoder:
    """``gigatoken``: the fastest; its cache of words grows without bound, so it is made anew when it is large.

    It would take special tokens' strings in a text for the tokens, so it is not told of them. Nor of NFC, for its NFC
    is of a newer Unicode than the reference's, and the few texts that are not in it are brought into it before.
    """

    name: EncoderName = "gigatoken"

    def __init__(self, file: Path) -> None:
        data = msgspec.json.decode(file.read_bytes(), type=dict[str, msgspec.Raw])
        added = msgspec.json.decode(data.get("added_tokens", b"[]"))
        data["added_tokens"] = msgspec.Raw(
            msgspec.json.encode([token for token in added if not token["special"]])
        )
        self._nfc = msgspec.json.decode(data.get("normalizer", b"null")) == {"type": "NFC"}
        if self._nfc:
            data["normalizer"] = msgspec.Raw(b"null")
        self._json, self._seen, self._warm = msgspec.json.encode(data).decode(), 0, 0
        self._renew()

    def _renew(self) -> None:
        from gigatoken import Tokenizer

        self._encode, self._seen = Tokenizer.from_json(self._json).backend.encode, 0

    def encode(self, texts: Sequence[str], data: Sequence[bytes] = ()) -> list[Ids]:
        if self._seen > WARM and not self._warm:
            self._warm = resident()
        if self._seen > RENEW_AFTER and resident() - self._warm > CACHE:
            self._renew()
        self._seen += sum(map(len, texts))
        given = in_nfc(texts, data or texts) if self._nfc else data or texts
        return [self._encode(text) for text in given]


def has_new(text: str, data: bytes) -> bool:
    """Whether a text has a character of NEW; ``data`` is its UTF-8, or nothing."""
    if text.isascii() or (data and not any(begin in data for begin in NEW_BEGIN)):
        return False
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
    return bool(NEW[codes].any())


class KnownCharacters:
    """Another encoder, but texts with characters of NEW go to the reference."""

    def __init__(self, encoder: Encoder, reference: Callable[[], Encoder]) -> None:
        """``reference`` gives the reference, which few need."""
        self.name, self._encoder, self._reference = encoder.name, encoder, reference

    def encode(self, texts: Sequence[str], data: Sequence[bytes] = ()) -> list[Ids]:
        found = self._encoder.encode(texts, data)
        for index, (text, datum) in enumerate(zip(texts, data or [b""] * len(texts), strict=True)):
            if has_new(text, datum):
                [found[index]] = self._reference().encode([text])
        return found


def cuts(text: str, part: int = PART, unbroken: int = UNBROKEN) -> list[int] | None:
    """Where a long text may be cut so that its parts' ids, end to end, are the whole's.

    A cut is before a space between two ASCII letters: every one of our tokenizers splits there before it
    merges, and Unicode's normal forms do not reach across. None where no such place comes for ``unbroken``
    characters.
    """
    found, begin = [0], 0
    while len(text) - begin > part:
        cut = _last_cut(text, begin + 1, begin + part)
        if cut is None:
            match = CUT.search(text, begin + part - 1)
            cut = match.start() if match else len(text)
            if cut - begin > unbroken:
                return None
        if cut == len(text):
            break
        found.append(cut)
        begin = cut
    return found


def _last_cut(text: str, begin: int, end: int) -> int | None:
    place = text.rfind(" ", begin, end)
    while place > 0 and not CUT.match(text, place):
        place = text.rfind(" ", begin, place)
    return place if place > 0 else None


class LongTexts:
    """Another encoder, but no text longer than a part: the memory of BPE is many times its text's."""

    def __init__(self, encoder: Encoder, prefixed: bool, part: int = PART) -> None:
        """``prefixed``: the encoder itself puts a space in front of a text, so the cut's own is left out."""
        self.name, self._encoder, self._prefixed, self._part = encoder.name, encoder, prefixed, part

    def encode(self, texts: Sequence[str], data: Sequence[bytes] = ()) -> list[Ids]:
        if all(len(text) <= self._part for text in texts):
            return self._encoder.encode(texts, data)
        return [self._whole(text) for text in texts]

    def _whole(self, text: str) -> Ids:
        places = cuts(text, self._part, unbroken=len(text)) or [0]
        begins = [place + (self._prefixed and place > 0) for place in places]
        parts = (text[begin:end] for begin, end in zip(begins, [*places[1:], len(text)], strict=True))
        return np.concatenate([self._encoder.encode([part])[0] for part in parts])


CLASSES: dict[str, type[ReferenceEncoder | FastokensEncoder | GigatokenEncoder]] = {
    "tokenizers": ReferenceEncoder,
    "fastokens": FastokensEncoder,
    "gigatoken": GigatokenEncoder,
}


class Steps(msgspec.Struct):
    """What of a ``tokenizer.json`` comes before its model."""

    normalizer: dict[str, Any] | None = None
    pre_tokenizer: dict[str, Any] | None = None


def puts_a_space_first(file: Path) -> bool:
    """Whether a ``tokenizer.json`` is of SentencePiece's kind, which begins every text with a space."""
    found = msgspec.json.decode(file.read_bytes(), type=Steps)
    normalizer = found.normalizer or {}
    steps = [*normalizer.get("normalizers", [normalizer]), found.pre_tokenizer or {}]
    return any(step.get("type") in ("Prepend", "Metaspace") for step in steps)


def choose(
    entry: TokenizerEntry, wanted: EncoderName, file: Path, reference: Callable[[], Encoder]
) -> Encoder:
    """The encoder asked for; for ``auto`` the first one of the entry's list that is installed."""
    names: Sequence[str] = entry.encoders if wanted == "auto" else [wanted]
    for name in names:
        try:
            encoder: Encoder = CLASSES[name](file)
            if name == "gigatoken":
                encoder = KnownCharacters(encoder, reference)
            return LongTexts(encoder, puts_a_space_first(file))
        except ImportError:
            if wanted != "auto":
                raise UserError(f"encoder {name} is not installed", hint=f"pip install {name}") from None
    return LongTexts(reference(), puts_a_space_first(file))


class Encoders:
    """The encoder in use and the reference, each loaded when it is first needed: that takes up to a second."""

    def __init__(self, tokens: TokenizerEntry, wanted: EncoderName, file: Path) -> None:
        self._tokens, self._wanted, self._file = tokens, wanted, file

    @functools.cached_property
    def fast(self) -> Encoder:
        return choose(self._tokens, self._wanted, self._file, lambda: self.bare)

    @functools.cached_property
    def bare(self) -> ReferenceEncoder:
        """The reference itself, which takes no care how long a text is."""
        return ReferenceEncoder(self._file)

    @functools.cached_property
    def reference(self) -> Encoder:
        return LongTexts(self.bare, puts_a_space_first(self._file))

    def load(self) -> None:
        """Load both, so that processes forked from this one have them."""
        self.fast, self.reference  # noqa: B018 - they are loaded when they are looked at


def differing(reference: Encoder, encoder: Encoder, texts: Sequence[str]) -> int | None:
    """Index of the first text that the two encode differently; None where they agree on all."""
    pairs = zip(reference.encode(texts), encoder.encode(texts), strict=True)
    return next(
        (index for index, (right, tried) in enumerate(pairs) if not np.array_equal(right, tried)), None
    )


def with_ends(texts: Sequence[Ids], eos_id: int, bos_id: int | None) -> tuple[Ids, npt.NDArray[np.int64]]:
    """The texts end to end, each with its EOS, and with its BOS unless ``bos_id`` is None; and the length of each."""
    begin = np.array([] if bos_id is None else [bos_id], np.uint32)
    end = np.array([eos_id], np.uint32)
    pieces = [piece for text in texts for piece in (begin, text, end)]
    lengths = np.fromiter(map(len, texts), np.int64, len(texts)) + len(begin) + len(end)
    return np.concatenate([end[:0], *pieces]), lengths

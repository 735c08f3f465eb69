"""``tokenizer.json``: the steps before its model, and the tokens that are added to its vocabulary.

The reference works in this order: take the added tokens out of the text, normalise the text between them,
split it into words, merge. Another order gives other ids.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from jobctl.jobs.catalog.data import ControlTokens

NFC = {"type": "NFC"}
SENTENCEPIECE = [
    {"type": "Prepend", "prepend": "\u2581"},
    {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"},
]
"""The normaliser of LLaMA-2: it puts a space in front, and writes U+2581 for each space."""


class AddedToken(msgspec.Struct, frozen=True):
    """A token outside the model's vocabulary.

    The string of a special token in a document is always text. Any other added token is a control token: the
    reference replaces its string in a document by its id.
    """

    id: int
    content: str
    special: bool = False
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool = False


class BytePairs(msgspec.Struct, frozen=True):
    """The fields of a model that show if it has ids for every text."""

    type: str = ""
    byte_fallback: bool = False
    dropout: float | None = None


class TokenizerFile:
    """One ``tokenizer.json``, with the control tokens that a job takes out of its texts."""

    def __init__(self, file: Path, control_tokens: ControlTokens = "ids") -> None:
        """With ``control_tokens="text"`` the string of a control token in a document is text."""
        self._parts = msgspec.json.decode(file.read_bytes(), type=dict[str, msgspec.Raw])
        self._as_text = control_tokens == "text"
        self.added = msgspec.json.decode(self._parts.get("added_tokens", b"[]"), type=list[AddedToken])
        self.normalizer: dict[str, Any] | None = self._part("normalizer")
        self.pre_tokenizer: dict[str, Any] | None = self._part("pre_tokenizer")

        controls = [] if self._as_text else [token for token in self.added if not token.special]
        self.control_ids = {token.content: token.id for token in controls}

        self.sorted_control_ids = np.array(sorted(self.control_ids.values()), np.uint32)

        # The reference takes the longest of those that begin at the same place.
        longest_first = sorted(self.control_ids, key=len, reverse=True)
        # Without any token the pattern must match nothing, not the empty text.
        self._controls = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    def _part(self, name: str) -> Any:
        return msgspec.json.decode(self._parts.get(name, b"null"))

    @property
    def steps(self) -> list[dict[str, Any]]:
        """Return the normaliser's and the pre-tokenizer's steps, in their order."""
        steps: list[dict[str, Any]] = []
        for step in (self.normalizer, self.pre_tokenizer):
            if step:
                steps += step.get("normalizers") or step.get("pretokenizers") or [step]

        return steps

    @property
    def is_nfc(self) -> bool:
        return self.normalizer == NFC

    @property
    def puts_a_space_first(self) -> bool:
        """Return True if every text begins with a space, as with SentencePiece."""
        return any(step.get("type") in ("Prepend", "Metaspace") for step in self.steps)

    @functools.cached_property
    def tells_texts_apart(self) -> bool:
        """Return True if texts of different identity have different ids (see ``identity``).

        It is True only if every step is known to lose nothing: bytes, or pieces with bytes as the fallback.
        """
        normalizer = self.normalizer or {}
        normalizers = normalizer.get("normalizers") or ([normalizer] if normalizer else [])
        is_sentencepiece = normalizers == SENTENCEPIECE
        if not (is_sentencepiece or normalizers in ([], [NFC])):
            return False

        # These steps are the pre-tokenizer's. Both kinds keep every character.
        for step in self.steps[len(normalizers) :]:
            keeps_all = step.get("type") == "ByteLevel" and not step.get("add_prefix_space")
            isolates = step.get("type") == "Split" and step.get("behavior") == "Isolated"
            if not (keeps_all or isolates):
                return False

        # Such a token removes the spaces beside it, or matches several spellings.
        if any(token.lstrip or token.rstrip or token.normalized for token in self.added if not token.special):
            return False

        model = msgspec.json.decode(self._parts["model"], type=BytePairs)
        if model.type not in ("", "BPE") or model.dropout:
            return False

        if any(step.get("type") == "ByteLevel" for step in self.steps):
            from tokenizers.pre_tokenizers import ByteLevel

            # A byte without its own token would be dropped or become "unknown".
            return set(ByteLevel.alphabet()) <= set(self.vocabulary())

        return model.byte_fallback and {f"<0x{byte:02X}>" for byte in range(256)} <= set(self.vocabulary())

    def has_controls(self, text: str) -> bool:
        return self._controls.search(text) is not None

    def segments(self, text: str) -> list[str]:
        """Split a text at its control tokens. They have the odd places in the result."""
        segments: list[str] = []
        begin = 0
        for match in self._controls.finditer(text):
            segments += [text[begin : match.start()], match.group()]
            begin = match.end()

        return [*segments, text[begin:]]

    def order_matters(self, text: str) -> bool:
        """Return True if normalising first may hide a control token: ``<think>`` before U+0338.

        ``text`` is not in NFC.
        """
        return self.is_nfc and self.has_controls(text)

    # -- the same file for each library --------------------------------------------------------------------

    def for_reference(self, prefix: bool = True) -> str:
        """Return JSON for ``tokenizers`` and fastokens. Their own settings keep special tokens as text.

        Without ``prefix`` a text gets no space in front.
        """
        changes: dict[str, Any] = {}
        if self._as_text:
            added = self._part("added_tokens") or []
            # The libraries keep special tokens as text, so every added token becomes a special one.
            changes["added_tokens"] = [{**token, "special": True} for token in added]

        if not prefix and self.normalizer:
            steps = self.normalizer.get("normalizers") or [self.normalizer]
            rest = [step for step in steps if step.get("type") != "Prepend"]
            changes["normalizer"] = {"type": "Sequence", "normalizers": rest}

        return self._changed(changes)

    def for_gigatoken(self) -> str:
        """Return JSON for gigatoken.

        It replaces every added token that it knows, so it gets only control tokens.

        NFC is left out, because gigatoken's NFC is of a newer Unicode than that of the reference.
        """
        added = self._part("added_tokens") or []
        changes: dict[str, Any] = {
            "added_tokens": [token for token in added if token["content"] in self.control_ids]
        }
        if self.is_nfc:
            changes["normalizer"] = None

        return self._changed(changes)

    def _changed(self, changes: dict[str, Any]) -> str:
        raw = {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in changes.items()}
        return msgspec.json.encode({**self._parts, **raw}).decode()

    def vocabulary(self) -> Sequence[str]:
        """Return the strings of the model's own tokens."""
        model = msgspec.json.decode(self._parts["model"], type=dict[str, msgspec.Raw])
        return list(msgspec.json.decode(model["vocab"], type=dict[str, int]))

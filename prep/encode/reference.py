"""The reference: Hugging Face ``tokenizers`` on ``tokenizer.json``, which ``transformers`` also uses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jobctl.jobs.catalog.data import EncoderName
from jobctl.prep.encode.look import Look
from jobctl.prep.encode.tokenizer_file import TokenizerFile
from jobctl.prep.shards.format import Ids


class ReferenceEncoder:
    """Encode like ``transformers`` with ``split_special_tokens=True``.

    Every other encoder must give the same ids.
    """

    name: EncoderName = "tokenizers"

    def __init__(self, file: TokenizerFile, prefix: bool = True) -> None:
        """Without ``prefix`` a text continues another one, so no space is put in front of it."""
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_str(file.for_reference(prefix))

        # The string of a special token in a document is text. Otherwise a web page could end a document.
        self._tokenizer.encode_special_tokens = True
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def encode(self, texts: Sequence[str], looks: Sequence[Look] = ()) -> list[Ids]:
        encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.array(encoding.ids, dtype=np.uint32) for encoding in encodings]

    def ids(self, text: str) -> list[int]:
        """Return the ids of one text.

        Unlike ``encode``, start no thread: a process with threads cannot be forked.
        """
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def id_of(self, token: str) -> int | None:
        """Return the id of a token by its string, or None if the vocabulary does not have it."""
        number: int | None = self._tokenizer.token_to_id(token)
        return number

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids, with special tokens shown."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=False)
        return text

    def words(self, text: str) -> list[int]:
        """Return the ends of the words in a text.

        No merge reaches over such an end. The list is empty without a pre-tokenizer.
        """
        splitter = self._tokenizer.pre_tokenizer
        return [end for _, (_, end) in splitter.pre_tokenize_str(text)] if splitter else []

    @property
    def vocab_size(self) -> int:
        """Return the largest id plus one, added tokens included."""
        last_plain_id = self._tokenizer.get_vocab_size(with_added_tokens=False) - 1
        return max([last_plain_id, *self._tokenizer.get_added_tokens_decoder()]) + 1

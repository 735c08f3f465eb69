"""Which language a document is in: fastText's identification of 176 languages, for text that does not say it.

The model is shipped (``prep/data/lid176``); the library that reads it, fasttext-predict, is optional.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import Any

from jobctl.jobs.core.errors import UserError
from jobctl.prep.sources.shipped import shipped_file

MODEL = "lid176/lid.176.ftz"
MODEL_SHA256 = "8f3472cfe8738a7b6099e8e999c3cbfae0dcd15696aac7d7738a8039db603e83"
LABEL = re.compile(rb"__label__([a-z]+)\0")
"""How the model's file has a language's name; the library lists those alone that are probable for some text."""
SEEN = 1000
"""Characters of a document that are looked at."""


@functools.cache
def _model() -> Any:
    try:
        import fasttext
    except ImportError:
        raise UserError(
            "telling languages apart needs the Python package 'fasttext-predict'",
            hint="pip install fasttext-predict, or name the field that holds the language: --language-field",
        ) from None

    return fasttext.load_model(str(shipped_file(MODEL, MODEL_SHA256)))


def check_languages(wanted: Sequence[str]) -> None:
    """Raises UserError where one is none of the model's names."""
    model = shipped_file(MODEL, MODEL_SHA256).read_bytes()
    known = {label.decode() for label in LABEL.findall(model)}
    for name in wanted:
        if name not in known:
            raise UserError(
                f"--languages: fastText calls no language '{name}'",
                hint=f"it takes ISO 639 codes: {' '.join(sorted(known))}",
            )


def language_of(text: str) -> str:
    """Its most probable language, as ISO 639-1 or -3 names it ("en", "de", "yue"); "" for a text without a word."""
    words = text[:SEEN].split()
    labels, _ = _model().predict(" ".join(words)) if words else ([], [])
    return str(labels[0]).removeprefix("__label__") if labels else ""

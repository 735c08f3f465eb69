"""Identify the language of a document with fastText's model of 176 languages, if no field names it.

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
"""A language's name in the model's file.

The library itself lists only the languages that are probable for a text.
"""
SEEN = 1000
"""Characters of a document that are read for its language. They are enough, and a document may be long."""


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
    """Raise UserError for a name that the model does not have."""
    model = shipped_file(MODEL, MODEL_SHA256).read_bytes()
    known = {label.decode() for label in LABEL.findall(model)}
    for name in wanted:
        if name not in known:
            raise UserError(
                f"--languages: fastText calls no language '{name}'",
                hint=f"it takes ISO 639 codes: {' '.join(sorted(known))}",
            )


def language_of(text: str) -> str:
    """Return the most probable language by its ISO 639-1 or -3 code ("en", "yue"), or "" for a text without words."""
    # fastText reads a single line, so line breaks become spaces.
    words = text[:SEEN].split()
    labels, _ = _model().predict(" ".join(words)) if words else ([], [])
    return str(labels[0]).removeprefix("__label__") if labels else ""

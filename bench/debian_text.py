"""Real, dirty text in twenty languages from Debian's packages, as JSON lines.

Help pages, manual pages, handbooks and word lists, as their packages have them, with markup and with whatever
encoding each file is in. Bytes that are not UTF-8 stay in the JSON lines. Each form of packing has its turn.

Needs ``apt-get`` and ``dpkg-deb``.
"""

from __future__ import annotations

import bz2
import collections
import gzip
import io
import json
import lzma
import subprocess
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import pyarrow
import zstandard

LANGUAGES = [
    *("cs", "da", "de", "el", "en-us", "es", "fr", "hi", "hu", "it"),
    *("ja", "ko", "nl", "pl", "pt-br", "ru", "sv", "tr", "vi", "zh-cn"),
]
"""Languages of libreoffice-help; Debian's other packages are sought in the same ones."""
LANGUAGE_BYTES = 16_000_000
"""Bytes of text of a language, about: enough for 300 MB in all. Documents are taken whole."""
MANUALS = (
    "manpages-{} manpages-{}-dev debian-reference-{} developers-reference-{} debian-faq-{} maint-guide-{} "
    "aptitude-doc-{}"
)
IN_ENGLISH = ("perl-doc", "git-doc", "bash-doc")
"""Packages that have no language in their name."""
WORDS = {
    "da": "wdanish",
    "de": "wngerman",
    "en-us": "wamerican-large",
    "es": "wspanish",
    "fr": "wfrench",
    "it": "witalian",
    "nl": "wdutch",
    "pl": "wpolish",
    "pt-br": "wbrazilian",
    "sv": "wswedish",
}
WORD_BYTES = 2_000_000
WORD_LINES = 2000
NO_TEXT = (
    ".png",
    ".jpg",
    ".gif",
    ".svg",
    ".pdf",
    ".js",
    ".css",
    ".ico",
    ".db",
    ".ht",
    ".idx",
    ".cfg",
    ".tree",
)
PACK: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".zst": zstandard.ZstdCompressor().compress,
    ".gz": gzip.compress,
    ".xz": lambda data: lzma.compress(data, preset=1),
    ".bz2": bz2.compress,
    ".lz4": lambda data: pyarrow.Codec("lz4").compress(data, asbytes=True),
}
"""Every form of packing has its turn."""


class Count(msgspec.Struct):
    documents: int = 0
    characters: int = 0


class Corpus(NamedTuple):
    """What the packages hold, counted before prep reads anything."""

    counts: dict[str, Count]
    not_utf8: int
    passed_over: dict[str, int]
    """Files that are no documents, by the reason."""


def known_packages() -> set[str]:
    """The names that this machine's lists of packages have."""
    said = subprocess.run(["apt-cache", "pkgnames"], check=True, capture_output=True, text=True)
    return set(said.stdout.split())


def packages(known: set[str]) -> dict[str, list[str]]:
    """Return the packages of each language that Debian has, the large ones last."""
    wanted: dict[str, list[str]] = {}
    for language in LANGUAGES:
        short = "" if language == "en-us" else language
        manuals = MANUALS.format(*[short] * 7).split()
        others = IN_ENGLISH if language == "en-us" else ()
        names = [WORDS.get(language, ""), *manuals, *others, f"libreoffice-help-{language}"]
        cleaned = (name.replace("--", "-").strip("-") for name in names)
        wanted[language] = [name for name in dict.fromkeys(cleaned) if name in known]

    return wanted


def download(folder: Path, names: Sequence[str]) -> None:
    """Fetch the packages that are not in the folder yet."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [name for name in names if not any(folder.glob(f"{name}_*.deb"))]
    if missing:
        subprocess.run(["apt-get", "download", "-qq", *missing], cwd=folder, check=True)


def texts_of(package: Path, passed_over: collections.Counter[str]) -> Iterator[tuple[str, bytes]]:
    """Yield name and bytes of every file of text in a package. Count the others."""
    data = subprocess.run(["dpkg-deb", "--fsys-tarfile", package], check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for member in tar:
            name = member.name.removeprefix("./")
            file = tar.extractfile(member) if member.isreg() else None
            if file is None:
                passed_over["link"] += not member.isdir()
                continue

            if name.endswith(NO_TEXT):
                passed_over["picture, style sheet, script or index, by its name"] += 1
                continue

            content = file.read()
            if name.endswith(".gz"):
                content = gzip.decompress(content)

            if content and b"\0" not in content[:4096]:
                yield name, content
            else:
                passed_over["zero bytes in it" if content else "empty"] += 1


def files_of(
    folder: Path, names: Sequence[str], passed_over: collections.Counter[str]
) -> Iterator[tuple[str, str, bytes]]:
    """Yield package, name and bytes of every file of text in packages."""
    for package in names:
        for file in folder.glob(f"{package}_*.deb"):
            for name, content in texts_of(file, passed_over):
                if package in WORDS.values():
                    yield from ((package, name, part) for part in word_parts(content))
                else:
                    yield package, name, content


def word_parts(content: bytes) -> Iterator[bytes]:
    """Yield the beginning of a word list, for a whole one may be longer than any document that prep takes."""
    lines = content[:WORD_BYTES].split(b"\n")
    for begin in range(0, len(lines), WORD_LINES):
        yield b"\n".join(lines[begin : begin + WORD_LINES])


def line_of(content: bytes, language: str, package: str, name: str) -> bytes:
    """Return a document as a JSON line; bytes that are not UTF-8 stay what they are."""
    text = content.decode("utf-8", "surrogateescape")
    record = {"text": text, "language": language, "package": package, "file": name}
    return json.dumps(record, ensure_ascii=False).encode("utf-8", "surrogateescape") + b"\n"


def is_utf8(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False

    return True


def write_sources(folder: Path) -> Corpus:
    """Write a file of lines for each language; return what is in them, counted before anything reads them."""
    wanted = packages(known_packages())
    download(folder / "packages", sorted({name for names in wanted.values() for name in names}))
    sources = folder / "sources"
    sources.mkdir(exist_ok=True)

    counts: dict[str, Count] = {}
    passed_over: collections.Counter[str] = collections.Counter()
    not_utf8 = 0
    for number, (language, names) in enumerate(wanted.items()):
        count = Count()
        lines: list[bytes] = []
        size = 0
        for package, name, content in files_of(folder / "packages", names, passed_over):
            if size >= LANGUAGE_BYTES:
                passed_over["text beyond its language's share"] += 1
                continue

            lines.append(line_of(content, language, package, name))
            size += len(content)
            not_utf8 += not is_utf8(content)
            count.documents += 1
            count.characters += len(content.decode("utf-8", "replace"))

        packing = list(PACK)[number % len(PACK)]
        (sources / f"{language}.jsonl{packing}").write_bytes(PACK[packing](b"".join(lines)))
        counts[language] = count

    return Corpus(counts, not_utf8, dict(passed_over))

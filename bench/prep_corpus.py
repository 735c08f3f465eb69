"""prep over real, dirty text in many languages: ``python -m bench.prep_corpus --folder DIR --root ROOT --out FILE``.

The text is Debian's: help pages, manual pages, handbooks and word lists, as their packages have them, with markup and
with whatever encoding each file is in. Bytes that are not UTF-8 stay in the JSON lines. Each tokenizer prepares all
of it once; then every document of the shards is held against the reference, in the sources' order.

Needs ``apt-get`` and ``dpkg-deb``.
"""

from __future__ import annotations

import argparse
import bz2
import collections
import gzip
import io
import json
import lzma
import platform
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow
import zstandard

from jobctl.jobs.core.layout import dataset_dir, tokenizer_dir
from jobctl.prep.encode import tokenizers
from jobctl.prep.encode.reference import ReferenceEncoder
from jobctl.prep.encode.tokenizer_file import TokenizerFile
from jobctl.prep.shards.format import Ids, TokenDataset, read_meta

NAMES = ("gpt2", "llama3", "qwen3", "llama2")
LANGUAGES = [
    *("cs", "da", "de", "el", "en-us", "es", "fr", "hi", "hu", "it"),
    *("ja", "ko", "nl", "pl", "pt-br", "ru", "sv", "tr", "vi", "zh-cn"),
]
"""Languages of libreoffice-help; Debian's other packages are sought in the same ones."""
LANGUAGE_BYTES = 16_000_000
"""Bytes of text of a language, about: enough for 300 MB in all. Documents are taken whole."""
MANUALS = (
    "manpages-{} manpages-{}-dev debian-reference-{} developers-reference-{} debian-faq-{} maint-guide-{}"
)
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
AT_ONCE = 256
"""Documents that the reference gets at once."""


class Count(msgspec.Struct):
    documents: int = 0
    characters: int = 0


def known_packages() -> set[str]:
    """The names that this machine's lists of packages have."""
    said = subprocess.run(["apt-cache", "pkgnames"], check=True, capture_output=True, text=True)
    return set(said.stdout.split())


def packages(known: set[str]) -> dict[str, list[str]]:
    """Return the packages of each language that Debian has, the large ones last."""
    wanted: dict[str, list[str]] = {}
    for language in LANGUAGES:
        short = "" if language == "en-us" else language
        manuals = MANUALS.format(*[short] * 6).split()
        names = [WORDS.get(language, ""), *manuals, f"libreoffice-help-{language}"]
        cleaned = (name.replace("--", "-").strip("-") for name in names)
        wanted[language] = [name for name in dict.fromkeys(cleaned) if name in known]

    return wanted


def download(folder: Path, names: Sequence[str]) -> None:
    """Fetch the packages that are not in the folder yet."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [name for name in names if not any(folder.glob(f"{name}_*.deb"))]
    if missing:
        subprocess.run(["apt-get", "download", "-qq", *missing], cwd=folder, check=True)


def texts_of(package: Path) -> Iterator[tuple[str, bytes]]:
    """Yield name and bytes of every file of text in a package."""
    data = subprocess.run(["dpkg-deb", "--fsys-tarfile", package], check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for member in tar:
            name = member.name.removeprefix("./")
            file = tar.extractfile(member) if member.isreg() else None
            if not file or name.endswith(NO_TEXT):
                continue

            content = file.read()
            if name.endswith(".gz"):
                content = gzip.decompress(content)

            if content and b"\0" not in content[:4096]:
                yield name, content


def files_of(folder: Path, names: Sequence[str]) -> Iterator[tuple[str, str, bytes]]:
    """Yield package, name and bytes of every file of text in packages."""
    for package in names:
        for file in folder.glob(f"{package}_*.deb"):
            for name, content in texts_of(file):
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


def write_sources(folder: Path) -> dict[str, Count]:
    """Write a file of lines for each language; return what is in them, counted before anything reads them."""
    wanted = packages(known_packages())
    download(folder / "packages", sorted({name for names in wanted.values() for name in names}))
    sources = folder / "sources"
    sources.mkdir(exist_ok=True)

    counts: dict[str, Count] = {}
    for number, (language, names) in enumerate(wanted.items()):
        count = Count()
        lines: list[bytes] = []
        size = 0
        for package, name, content in files_of(folder / "packages", names):
            if size >= LANGUAGE_BYTES:
                break

            lines.append(line_of(content, language, package, name))
            size += len(content)
            count.documents += 1
            count.characters += len(content.decode("utf-8", "replace"))

        packing = list(PACK)[number % len(PACK)]
        (sources / f"{language}.jsonl{packing}").write_bytes(PACK[packing](b"".join(lines)))
        counts[language] = count

    return counts


# -- what came out -------------------------------------------------------------------------------------------


def unpacked(path: Path) -> bytes:
    """Return a source file's lines."""
    data = path.read_bytes()
    if path.suffix == ".zst":
        return zstandard.ZstdDecompressor().decompress(data, max_output_size=1 << 31)
    if path.suffix == ".lz4":
        return bytes(pyarrow.CompressedInputStream(pyarrow.BufferReader(data), "lz4").read())

    readers = {".gz": gzip.decompress, ".xz": lzma.decompress, ".bz2": bz2.decompress}
    return readers.get(path.suffix, bytes)(data)


def documents(sources: Path) -> Iterator[tuple[str, str]]:
    """Yield language and text of every line, in prep's order, by Python's own parser."""
    for path in sorted(sources.iterdir(), key=lambda path: path.name):
        for line in unpacked(path).split(b"\n"):
            if line:
                record = json.loads(line.decode("utf-8", "replace"))
                yield record["language"], record["text"]


class Checked(NamedTuple):
    """What the shards hold, by language, and the documents that are not the reference's."""

    kept: dict[str, Count]
    absent: list[str]
    unread: int


class Splits:
    """The two splits of a data set, read on from where the last document ended."""

    def __init__(self, folder: Path) -> None:
        meta = read_meta(folder)
        self._tokens = {split: TokenDataset(folder, meta, split) for split in ("train", "val")}
        self._places = {"train": 0, "val": 0}
        self._end = np.array([meta.eos_id], np.uint32)

    def takes(self, ids: Ids) -> bool:
        """Whether these ids and EOS are the next document of a split, which is then passed."""
        expected = np.concatenate([ids, self._end])
        for split, dataset in self._tokens.items():
            place = self._places[split]
            if place + len(expected) > dataset.num_tokens:
                continue

            if np.array_equal(dataset.read(place, len(expected)), expected):
                self._places[split] += len(expected)
                return True

        return False

    @property
    def unread(self) -> int:
        """Tokens that no document was found for."""
        return sum(dataset.num_tokens - self._places[split] for split, dataset in self._tokens.items())


def check(folder: Path, sources: Path, reference: ReferenceEncoder) -> Checked:
    """Hold every document of the sources against the shards."""
    splits = Splits(folder)
    kept: dict[str, Count] = collections.defaultdict(Count)
    absent: list[str] = []
    batch: list[tuple[str, str]] = []

    def judge() -> None:
        encoded = reference.encode([text for _, text in batch])
        for (language, text), ids in zip(batch, encoded, strict=True):
            if splits.takes(ids):
                kept[language].documents += 1
                kept[language].characters += len(text)
            else:
                absent.append(f"{language}: {text[:60]!r}")

        batch.clear()

    for item in documents(sources):
        batch.append(item)
        if len(batch) == AT_ONCE:
            judge()

    judge()
    return Checked(dict(kept), absent, splits.unread)


def run_prep(tokenizer: str, folder: Path, root: Path) -> float:
    """Prepare the sources; return the seconds from start to end. No line may be rejected."""
    began = time.perf_counter()
    subprocess.run(
        [
            *(sys.executable, "-m", "jobctl.prep", "--dataset", "debian", "--tokenizer", tokenizer),
            *("--root", str(root), "--source", str(folder / "sources"), "--source-field", "language"),
            *("--workers", "1", "--max-reject-share", "0"),
        ],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return time.perf_counter() - began


def measured(tokenizer: str, folder: Path, root: Path) -> dict[str, Any]:
    """Prepare and check with one tokenizer."""
    seconds = run_prep(tokenizer, folder, root)
    output = dataset_dir(root, "debian", tokenizer)
    meta = read_meta(output)
    said = json.loads((output / "statistics.json").read_text())
    reference = ReferenceEncoder(TokenizerFile(tokenizer_dir(root, tokenizer) / tokenizers.FILE))
    began = time.perf_counter()
    result = check(output, folder / "sources", reference)

    return {
        "tokenizer": tokenizer,
        "documents": meta.documents,
        "tokens": meta.tokens,
        "seconds_of_prep": round(seconds, 1),
        "seconds_of_check": round(time.perf_counter() - began, 1),
        "left_out": said["left_out"],
        "rejected": said["rejected"],
        "control_tokens": said["control_tokens"],
        "kept": {language: msgspec.to_builtins(count) for language, count in result.kept.items()},
        "not_the_reference": len(result.absent),
        "the_first_of_them": result.absent[:5],
        "tokens_of_no_document": result.unread,
    }


def shares(counts: dict[str, Count]) -> dict[str, float]:
    """Return each language's share of all characters."""
    total = sum(count.characters for count in counts.values())
    return {language: count.characters / total for language, count in counts.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="where packages and sources go")
    parser.add_argument("--root", type=Path, required=True, help="where the tokenizers are")
    parser.add_argument("--out", type=Path, required=True, help="JSON of what was found")
    parser.add_argument("--tokenizers", nargs="+", default=list(NAMES))
    given = parser.parse_args()

    before = write_sources(given.folder)
    facts: dict[str, Any] = {
        "date": date.today().isoformat(),
        "machine": platform.processor() or platform.machine(),
        "before": {language: msgspec.to_builtins(count) for language, count in before.items()},
        "share_of_characters": {language: round(share, 6) for language, share in shares(before).items()},
        "runs": [],
    }
    for tokenizer in given.tokenizers:
        facts["runs"].append(measured(tokenizer, given.folder, given.root))
        given.out.write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
        last = facts["runs"][-1]
        kept = {language: msgspec.convert(count, Count) for language, count in last["kept"].items()}
        print(
            f"{tokenizer}: {last['documents']:,} documents, {last['tokens']:,} tokens in {last['seconds_of_prep']} s; "
            f"{last['not_the_reference']} are not the reference's; shares as before: {shares(kept) == shares(before)}",
            flush=True,
        )


if __name__ == "__main__":
    main()

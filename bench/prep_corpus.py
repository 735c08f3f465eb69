"""prep over real, dirty text in many languages: ``python -m bench.prep_corpus --folder DIR --root ROOT --out FILE``.

The text is bench.debian_text's. Each tokenizer prepares all of it once; then every document of the shards is held
against the reference, in the sources' order. One more run leaves documents out, and tells why.
"""

from __future__ import annotations

import argparse
import bz2
import collections
import gzip
import json
import lzma
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow
import zstandard

from bench.debian_text import Count, write_sources
from jobctl.jobs.core.layout import dataset_dir, tokenizer_dir
from jobctl.prep.encode import tokenizers
from jobctl.prep.encode.reference import ReferenceEncoder
from jobctl.prep.encode.tokenizer_file import TokenizerFile
from jobctl.prep.shards.format import Ids, TokenDataset, read_meta

NAMES = ("gpt2", "llama3", "qwen3", "llama2")
AT_ONCE = 256
"""Documents that the reference gets at once."""


SELECTION = ("--duplicates", "exact", "--min-characters", "200")
"""Options of one more run, in which documents are left out."""


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


def run_prep(dataset: str, tokenizer: str, folder: Path, root: Path, options: Sequence[str]) -> float:
    """Prepare the sources; return the seconds from start to end. No line may be rejected."""
    began = time.perf_counter()
    subprocess.run(
        [
            *(sys.executable, "-m", "jobctl.prep", "--dataset", dataset, "--tokenizer", tokenizer),
            *("--root", str(root), "--source", str(folder / "sources"), "--source-field", "language"),
            *("--workers", "1", "--max-reject-share", "0", *options),
        ],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return time.perf_counter() - began


def measured(
    dataset: str, tokenizer: str, folder: Path, root: Path, options: Sequence[str] = ()
) -> dict[str, Any]:
    """Prepare and check with one tokenizer. Documents that the options leave out are none of the reference's."""
    seconds = run_prep(dataset, tokenizer, folder, root, options)
    output = dataset_dir(root, dataset, tokenizer)
    meta = read_meta(output)
    said = json.loads((output / "statistics.json").read_text())
    reference = ReferenceEncoder(TokenizerFile(tokenizer_dir(root, tokenizer) / tokenizers.FILE))
    began = time.perf_counter()
    result = check(output, folder / "sources", reference)

    return {
        "tokenizer": tokenizer,
        "options": list(options),
        "documents": meta.documents,
        "tokens": meta.tokens,
        "seconds_of_prep": round(seconds, 1),
        "seconds_of_check": round(time.perf_counter() - began, 1),
        "left_out": said["left_out"],
        "rejected": said["rejected"],
        "control_tokens": said["control_tokens"],
        "kept": {language: msgspec.to_builtins(count) for language, count in result.kept.items()},
        "not_in_the_shards": len(result.absent),
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

    corpus = write_sources(given.folder)
    before = corpus.counts
    facts: dict[str, Any] = {
        "date": date.today().isoformat(),
        "machine": platform.processor() or platform.machine(),
        "before": {language: msgspec.to_builtins(count) for language, count in before.items()},
        "share_of_characters": {language: round(share, 6) for language, share in shares(before).items()},
        "not_utf8": corpus.not_utf8,
        "passed_over": corpus.passed_over,
        "runs": [],
    }
    runs: list[tuple[str, str, Sequence[str]]] = [("debian", name, ()) for name in given.tokenizers]
    runs.append(("debian-selected", given.tokenizers[0], SELECTION))
    for dataset, tokenizer, options in runs:
        facts["runs"].append(measured(dataset, tokenizer, given.folder, given.root, options))
        given.out.write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
        last = facts["runs"][-1]
        kept = {language: msgspec.convert(count, Count) for language, count in last["kept"].items()}
        print(
            f"{tokenizer}: {last['documents']:,} documents, {last['tokens']:,} tokens in {last['seconds_of_prep']} s; "
            f"{last['not_in_the_shards']} of the reference's are not in the shards, left out: {last['left_out']}; "
            f"shares as before: {shares(kept) == shares(before)}",
            flush=True,
        )


if __name__ == "__main__":
    main()

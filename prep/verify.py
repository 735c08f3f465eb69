"""``python -m jobctl.prep.verify DIR``: compare a data set with its ``meta.json``, to the last byte.

Every shard is read once. Checked are its length, its checksum, that its ids are below the vocabulary size,
and that every document ends with EOS. Checked over all shards are the histogram of ids (it shows ids that
were cut to 16 bits) and that no document is in both splits. Sample texts are decoded for the reader.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from jobctl.jobs.core.amounts import counted
from jobctl.jobs.core.bounds import MOST_PROCESSES
from jobctl.jobs.core.errors import UserError, run_command
from jobctl.jobs.core.layout import tokenizers
from jobctl.jobs.core.names import inside
from jobctl.jobs.core.reading import decode_json, read_regular
from jobctl.jobs.core.validation import whole_number
from jobctl.prep.encode.reference import ReferenceEncoder
from jobctl.prep.encode.tokenizer_file import TokenizerFile
from jobctl.prep.shards import statistics
from jobctl.prep.shards.format import META_FILE, Meta, Shard, TokenDataset, check_size, numpy_dtype, read_meta
from jobctl.prep.shards.survey import CHUNK, id_problems
from jobctl.prep.sources.files import sha256_of
from jobctl.prep.work import origin as origins
from jobctl.prep.work.pool import cores
from jobctl.prep.work.whole_job import repair, show_on

SAMPLE = 48
"""Tokens of a sample text."""


class Report(msgspec.Struct, kw_only=True):
    """The result. If ``problems`` is empty, the data set is as its ``meta.json`` says."""

    folder: str
    fingerprint: str
    documents: int
    tokens: int
    distinct_ids: int
    largest_id: int
    common_ids: list[tuple[int, int]]
    samples: dict[str, str]
    problems: list[str]
    unchecked: list[str] = []


class ShardCheck:
    """One pass over a shard's tokens."""

    def __init__(self, folder: Path, meta: Meta, shard: Shard) -> None:
        self.path = folder / shard.file
        self.meta = meta
        self.shard = shard
        self.counts = np.zeros(meta.vocab_size, dtype=np.int64)
        self.problems: list[str] = []
        self.documents: set[bytes] = set()
        self.shared = 0

    def _tokens(self) -> Iterator[npt.NDArray[Any]]:
        digest = hashlib.sha256()
        with open(self.path, "rb") as file:
            while data := file.read(CHUNK):
                digest.update(data)
                yield np.frombuffer(data, numpy_dtype(self.meta.dtype))

        if digest.hexdigest() != self.shard.sha256:
            self.problems.append(f"{self.path}: its checksum differs from meta.json: bytes were changed")

    def run(self, against: frozenset[bytes] | None = None) -> ShardCheck:
        """Read the whole shard.

        Keep the hashes of all documents, or only count those that are in ``against``.
        """
        # A shard of another length fails all other checks too, so one message is enough.
        try:
            check_size(self.path.parent, self.shard, self.meta.dtype)
        except UserError as error:
            self.problems.append(error.message)
            return self

        foreign = 0
        last = None
        # With 16 bytes two different documents practically never have one hash.
        rest = hashlib.blake2b(digest_size=16)

        for ids in self._tokens():
            # Without the wrong ids, because bincount would grow to the largest of them.
            inside = ids[ids < self.meta.vocab_size]
            foreign += len(ids) - len(inside)
            self.counts += np.bincount(inside, minlength=self.meta.vocab_size)
            last = int(ids[-1])
            rest = self._documents(ids, rest, against)

        if foreign:
            self.problems.append(
                f"{self.path}: {foreign} ids are outside the vocabulary of {self.meta.vocab_size} ids"
            )

        ends = int(self.counts[self.meta.eos_id])
        if ends != self.shard.documents:
            self.problems.append(f"{self.path}: {ends} EOS for {self.shard.documents} documents")

        # Ids of another program need not end with EOS.
        is_ours = not self.meta.options.get("adopted")
        if is_ours and last is not None and last != self.meta.eos_id:
            self.problems.append(f"{self.path}: does not end with EOS")

        if self.shared:
            self.problems.append(
                f"{self.path}: {self.shared} of its documents are in the validation split as well"
            )

        return self

    def _documents(self, ids: npt.NDArray[Any], rest: Any, against: frozenset[bytes] | None) -> Any:
        # `rest` is the hash of a document that began in an earlier block.
        begin = 0
        for end in np.flatnonzero(ids == self.meta.eos_id) + 1:
            rest.update(ids[begin:end].tobytes())
            digest = rest.digest()
            if against is None:
                self.documents.add(digest)
            elif digest in against:
                self.shared += 1

            begin = int(end)
            rest = hashlib.blake2b(digest_size=16)

        # These ids begin a document that a later block ends.
        rest.update(ids[begin:].tobytes())

        return rest


def sum_problems(folder: Path, meta: Meta) -> list[str]:
    """Compare the sums over the shards with ``meta.json`` and ``statistics.json``. Return the differences.

    The statistics were counted from the documents, so they show a shard that was dropped or moved to the
    other split.
    """
    problems: list[str] = []
    for file, count in Counter(shard.file for shard in meta.shards).items():
        if count > 1:
            problems.append(f"{folder / file}: {META_FILE} lists it {count} times")

    sums = (sum(shard.documents for shard in meta.shards), sum(shard.tokens for shard in meta.shards))
    if sums != (meta.documents, meta.tokens):
        problems.append(f"{META_FILE}: its shards have {sums}, it says {(meta.documents, meta.tokens)}")

    path = folder / statistics.FILE
    if not path.exists():
        return problems

    try:
        said = decode_json(read_regular(path), statistics.Statistics)
    except msgspec.DecodeError as error:
        return [*problems, f"{path} is damaged: {error}"]

    for split in sorted({*said.splits, *(shard.split for shard in meta.shards)}):
        count_said = said.splits.get(split, statistics.Count())
        shards = [shard for shard in meta.shards if shard.split == split]
        counted = (sum(shard.documents for shard in shards), sum(shard.tokens for shard in shards))
        if counted != (count_said.documents, count_said.tokens):
            problems.append(
                f"split '{split}': its shards have {counted[0]} documents and {counted[1]} tokens, "
                f"{statistics.FILE} says {count_said.documents} and {count_said.tokens}"
            )

    return problems


def vocabulary_problems(reference: ReferenceEncoder, meta: Meta) -> list[str]:
    """Return the differences between ``meta.json`` and the tokenizer."""
    if reference.vocab_size == meta.vocab_size:
        return []

    return [
        f"{META_FILE} says {meta.vocab_size} ids, tokenizer {meta.tokenizer.name} has {reference.vocab_size}"
    ]


def sample_texts(dataset: TokenDataset, reference: ReferenceEncoder | None) -> dict[str, str]:
    """Return samples from the beginning, the end and three places between.

    They are text, or ids without a tokenizer.
    """
    last = max(dataset.num_tokens - SAMPLE, 0)
    # A fixed seed, so that two reports of a data set are the same.
    places = sorted({0, last, *(int(x) for x in np.random.default_rng(0).integers(0, last + 1, 3))})
    samples = {}

    for start in places:
        ids = dataset.read(start, min(SAMPLE, dataset.num_tokens - start)).tolist()
        text = reference.decode(ids) if reference else str(ids)
        samples[f"{dataset.split} {start}"] = text

    return samples


def default_roots(folder: Path) -> list[Path]:
    """Return the root that has the folder, and the root that was given to the job, if it is known."""
    # A data set lies two folders below its root.
    roots = [folder.resolve().parent.parent]
    with contextlib.suppress(UserError):
        roots.append(Path(origins.load(folder).root))

    return roots


def _reference(folder: Path, meta: Meta, root: Path | None) -> tuple[ReferenceEncoder | None, list[str]]:
    """Return the tokenizer of the data set if it can be found, and its problems."""
    name = f"{meta.tokenizer.name}/{meta.tokenizer.file}"
    bases = [root] if root else default_roots(folder)
    files = [inside(tokenizers(base), name) for base in bases]
    file = next((file for file in files if file.is_file()), files[0])
    if not file.is_file():
        return None, [f"tokenizer {meta.tokenizer.name} is not in {file.parent}"] if root else []

    if sha256_of(file) != meta.tokenizer.sha256:
        return None, [f"{file} is not the tokenizer that made the data: its hash differs"]

    return ReferenceEncoder(TokenizerFile(file)), []


def all_samples(folder: Path, meta: Meta, reference: ReferenceEncoder | None) -> dict[str, str]:
    """Return sample texts of every split."""
    samples: dict[str, str] = {}
    for split in sorted({shard.split for shard in meta.shards}):
        dataset = TokenDataset(folder, meta, split)
        if dataset.num_tokens:
            samples |= sample_texts(dataset, reference)

    return samples


def verify(folder: Path, root: Path | None = None, workers: int = 1) -> Report:
    """Check everything. Raises UserError only if ``meta.json`` itself cannot be used."""
    meta = read_meta(folder)
    reference, problems = _reference(folder, meta, root)
    unchecked: list[str] = []
    if reference:
        problems += vocabulary_problems(reference, meta)
    elif not problems:
        unchecked.append(f"ids: tokenizer {meta.tokenizer.name} was not found; name its folder with --root")

    counts = np.zeros(meta.vocab_size, dtype=np.int64)
    listed = {shard.file for shard in meta.shards}
    problems += [
        f"{path}: is not in {META_FILE}" for path in sorted(folder.glob("*.bin")) if path.name not in listed
    ]
    checks = [ShardCheck(folder, meta, shard).run() for shard in meta.shards if shard.split == "val"]
    held_out = frozenset().union(*(check.documents for check in checks))  # the rest is compared with it
    rest = [ShardCheck(folder, meta, shard) for shard in meta.shards if shard.split != "val"]

    with ThreadPoolExecutor(workers) as pool:
        for check in itertools.chain(checks, pool.map(lambda check: check.run(held_out), rest)):
            counts += check.counts
            problems += check.problems

    problems += sum_problems(folder, meta)
    problems += id_problems(counts, meta)
    samples = {} if problems else all_samples(folder, meta, reference)  # wrong ids may have no text
    top = np.argsort(counts)[::-1][:10]
    present = np.flatnonzero(counts)

    return Report(
        folder=str(folder),
        fingerprint=meta.fingerprint,
        documents=meta.documents,
        tokens=meta.tokens,
        distinct_ids=len(present),
        largest_id=int(present[-1]) if len(present) else 0,
        common_ids=[(int(index), int(counts[index])) for index in top],
        samples=samples,
        problems=problems,
        unchecked=unchecked,
    )


def in_words(report: Report) -> str:
    """Return the report as text for a person."""
    lines = [
        f"{report.folder}: {report.documents:,} documents, {report.tokens:,} tokens, {report.fingerprint}",
        f"{report.distinct_ids:,} different ids, the largest {report.largest_id}; the most frequent:",
        "  " + ", ".join(f"{index}: {count:,}" for index, count in report.common_ids),
    ]
    lines += [f"  {place}: {text!r}" for place, text in report.samples.items()]
    lines += [f"WRONG: {problem}" for problem in report.problems]
    lines += [f"NOT CHECKED: {item}" for item in report.unchecked]

    if report.problems:
        lines.append(counted(len(report.problems), "problem"))
    else:
        lines.append("all checks agree with meta.json")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m jobctl.prep.verify", description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="the data set: the folder of meta.json")
    parser.add_argument(
        "--root",
        type=Path,
        help="where the tokenizer is; default: the folder's own root, or the job's",
    )
    parser.add_argument(
        "--workers", type=whole_number(1, MOST_PROCESSES), default=cores(), help="shards read at once"
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument(
        "--repair", action="store_true", help="make the shards again that are missing or damaged"
    )
    given = parser.parse_args(arguments)

    report = verify(given.folder, given.root, given.workers)
    if given.repair and report.problems:
        repair(given.folder, show_on())
        # Only a second look shows whether the repair has worked.
        report = verify(given.folder, given.root, given.workers)

    print(msgspec.json.encode(report).decode() if given.json else in_words(report))
    return 1 if report.problems else 0


if __name__ == "__main__":
    run_command(main)

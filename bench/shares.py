"""Where prep's CPU time goes: ``python -m bench.shares --folder DIR --root ROOT [--tokenizers NAME ...]``.

The corpus of bench.corpus, prepared in this process twice: once to warm up, once under the profiler, by CPU time.
Every function's own time is counted for the step it belongs to. The profiler makes short calls dearer than they are.
"""

from __future__ import annotations

import cProfile
import pstats
import re
import tempfile
import time
from pathlib import Path

from bench.corpus import arguments, write
from jobctl.jobs.catalog.data import DatasetEntry, PrepConfig
from jobctl.jobs.core.layout import tokenizer_dir
from jobctl.prep.encode import tokenizers
from jobctl.prep.encode.encoders import Encoders
from jobctl.prep.sources import manifest as manifests
from jobctl.prep.sources.listing import listed_files
from jobctl.prep.work.job import Job, create, work_dir
from jobctl.prep.work.plan import plan
from jobctl.prep.work.unit import UnitJob, prepare

STEPS = {
    "BPE": r"encode_batch|method 'encode' of 'builtins|gigatoken|fastokens|(fast|reference|encoder)\.py",
    "decompression": r"decompress|ZstdFrames",
    "parsing": r"decode_lines|method 'decode' of 'msgspec|count_nonzero",
    "hash of the text, with its UTF-8": r"xxh|method 'encode' of 'str'",
    "checksums": r"_hashlib|sha256|md5",
    "writing": r"fsync|method 'write' of '_io|posix\.(rename|replace)|sync_file_range|built-in method posix",
    "reading": r"readinto|method 'read",
    "putting together": r"concatenate|numpy|with_ends|reduce",
}
"""What a function's name in the profile has to be like, the first that fits; "else" is the rest."""


def step_of(name: str) -> str:
    return next((step for step, pattern in STEPS.items() if re.search(pattern, name)), "else")


def work_for(text: Path, root: Path, name: str, output: Path) -> UnitJob:
    """One job over the corpus, with loaded encoders."""
    tokens = tokenizers.entry_of(name)
    sources = listed_files([text], []).sources
    entry = DatasetEntry(summary="", license="")
    record = tokenizers.ensure(root, name)
    config = PrepConfig()
    create(output, Job(dataset="x", entry=entry, tokenizer=record, tokens=tokens, config=config))
    manifest = manifests.make(sources, 1)
    manifests.save(manifest, work_dir(output))
    encoders = Encoders(tokens, config.encoder, tokenizer_dir(root, name) / tokenizers.FILE)
    return UnitJob(
        job=Job(dataset="x", entry=entry, tokenizer=record, tokens=tokens, config=config),
        output=output,
        units=plan(manifest, sources, config.shard_bytes),
        files={file.path: file for file in manifest.files},
        encoders=encoders,
    )


def shares(work: UnitJob) -> tuple[float, dict[str, float], list[tuple[str, float]]]:
    """Million tokens a CPU-second without the profiler; with it the share of each step, and the dearest functions."""

    def once() -> int:
        records = [prepare(work, index, lambda size, tokens: None) for index in range(len(work.units))]
        return sum(shard.tokens for record in records for shard in record.shards)

    once()
    began = time.process_time()
    rate = once() / (time.process_time() - began) / 1e6
    profile = cProfile.Profile(time.process_time)
    profile.runcall(once)
    own = {
        f"{Path(file).name}:{name}": timing[2]
        for (file, _, name), timing in pstats.Stats(profile).stats.items()  # type: ignore[attr-defined]
    }
    total = sum(own.values())
    found = dict.fromkeys([*STEPS, "else"], 0.0)
    for name, seconds in own.items():
        found[step_of(name)] += seconds / total
    dearest = sorted(((name, seconds / total) for name, seconds in own.items()), key=lambda item: -item[1])
    return rate, found, dearest[:12]


def main() -> None:
    given = arguments(__doc__).parse_args()
    text = write(given.folder)
    for name in given.tokenizers:
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            rate, found, dearest = shares(work_for(text, given.root, name, Path(folder) / "out"))
        print(
            f"{name}: {rate:.1f} M tokens a CPU-second; "
            + ", ".join(f"{k} {v:.0%}" for k, v in found.items())
        )
        for function, share in dearest:
            print(f"  {share:6.1%} {step_of(function):12.12} {function}")


if __name__ == "__main__":
    main()

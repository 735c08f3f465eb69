"""A root with GPT-2's real tokenizer, small sources, and prep run in this process or as its users run it."""

from __future__ import annotations

import functools
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pytest

from jobctl.jobs.catalog.data import DatasetEntry, PrepConfig
from jobctl.prep.encode import tokenizers
from jobctl.prep.encode.encoders import Encoders
from jobctl.prep.shards.format import TokenizerRecord
from jobctl.prep.sources import manifest as manifests
from jobctl.prep.sources.listing import listed_files
from jobctl.prep.work.job import Job, create, work_dir
from jobctl.prep.work.plan import cuts, plan
from jobctl.prep.work.unit import UnitJob

PROJECT = Path(__file__).parents[2]
WORDS = [
    "the",
    "of",
    "union",
    "state",
    "people",
    "congress",
    "war",
    "peace",
    "treaty",
    "money",
    "1790",
    "Ünïon",
    "国",
    "🙂",
    "'s\t\n\n",
    "law",
]


@pytest.fixture(scope="session")
def gpt2_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root that holds only GPT-2's tokenizer; not to be written to."""
    root = tmp_path_factory.mktemp("gpt2-root")
    tokenizers.ensure(root, "gpt2")
    return root


@pytest.fixture
def root(gpt2_root: Path, tmp_path: Path) -> Path:
    """A root of the test's own."""
    root = tmp_path / "root"
    root.mkdir()
    (root / "tokenizers").symlink_to(gpt2_root / "tokenizers")
    return root


def some_texts(count: int, seed: int = 0) -> list[str]:
    chance = random.Random(seed)
    return [" ".join(chance.choices(WORDS, k=chance.randint(1, 60))) for _ in range(count)]


def lines(texts: Sequence[str], **more: object) -> bytes:
    """JSON lines."""
    return b"".join(json.dumps({"text": text, **more}).encode() + b"\n" for text in texts)


def run_prep(*arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    """``python -m jobctl.prep`` as a user runs it."""
    command = [sys.executable, "-m", "jobctl.prep", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT / "src")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=1200)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


MakeUnit = Callable[..., UnitJob]


@pytest.fixture(scope="session")
def gpt2_encoders(gpt2_root: Path) -> Callable[[str], Encoders]:
    """Return GPT-2's encoders by their name. Each is loaded once, because that takes most of a short test."""
    file = gpt2_root / "tokenizers" / "gpt2" / tokenizers.FILE

    @functools.cache
    def named(encoder: str) -> Encoders:
        return Encoders(tokenizers.entry_of("gpt2"), encoder, file)  # type: ignore[arg-type]

    return named


@pytest.fixture(scope="session")
def gpt2_record(gpt2_root: Path) -> TokenizerRecord:
    """The tokenizer as a job records it."""
    return tokenizers.ensure(gpt2_root, "gpt2")


@pytest.fixture
def unit_job(
    tmp_path: Path, gpt2_encoders: Callable[[str], Encoders], gpt2_record: TokenizerRecord
) -> MakeUnit:
    """Build what a worker holds, for sources in a folder, with catalogue fields changed at will."""

    def make(folder: Path, encoder: str = "auto", shard_bytes: int = 10**9, **changes: object) -> UnitJob:
        entry = msgspec.structs.replace(DatasetEntry(summary="test", license="none", validation_share=0.1))
        config = PrepConfig(shard_bytes=shard_bytes)
        for name, value in changes.items():
            if name in PrepConfig.__struct_fields__:
                config = msgspec.structs.replace(config, **{name: value})
            else:
                entry = msgspec.structs.replace(entry, **{name: value})
        tokens = tokenizers.entry_of("gpt2")
        job = Job(dataset="test", entry=entry, tokenizer=gpt2_record, tokens=tokens, config=config)
        output = tmp_path / "out"
        create(output, job)
        sources = listed_files([folder], []).sources
        manifest = manifests.make(sources, 1, cut=lambda source, size: cuts(source.name, size, shard_bytes))
        manifests.save(manifest, work_dir(output))
        return UnitJob(
            job=job,
            output=output,
            units=plan(manifest, sources, shard_bytes),
            files={source.path: source for source in manifest.files},
            encoders=gpt2_encoders(encoder),
        )

    return make

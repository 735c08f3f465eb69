"""A source's own validation split becomes ours, and its documents are nowhere in training."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from jobctl.prep.shards.format import open_dataset
from tests.prep.conftest import lines, run_prep, some_texts

HELD = some_texts(40, seed=1)
SHARED = "the same text stands in both: Ünïon"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three files to train on, and validation and test as data sets of the hub have them."""
    folder = tmp_path / "text" / "data"
    folder.mkdir(parents=True)
    for number in range(3):
        texts = [*some_texts(60, number + 10), unicodedata.normalize("NFD", SHARED)]
        (folder / f"train-{number}.jsonl").write_bytes(lines(texts))

    (folder / "validation-0.jsonl").write_bytes(lines([*HELD[:20], SHARED]))
    (folder / "validation-1.jsonl").write_bytes(lines(HELD[20:]))
    (folder / "test-0.jsonl").write_bytes(lines(some_texts(5, 99)))
    return folder.parent


def documents(output: Path, split: str) -> list[bytes]:
    tokens = open_dataset(output, split)
    ids = tokens.read(0, tokens.num_tokens)
    ends = np.flatnonzero(ids == tokens.meta.eos_id) + 1
    return [part.tobytes() for part in np.split(ids, ends)[:-1]]


@pytest.mark.parametrize(
    "more", [[], ["--duplicates", "exact"], ["--shuffle", "3"], ["--shard-bytes", "9000"]]
)
def test_the_sources_own_validation_split_is_ours(root: Path, folder: Path, more: list[str]) -> None:
    given = ["--source", folder, "--patterns", "data/train*", "--validation-files", "data/valid*"]
    run_prep("--dataset", "mine", "--tokenizer", "gpt2", "--root", root, *given, *more, "--workers", "2")
    output = root / "datasets" / "mine-gpt2"
    held = documents(output, "val")
    trained = documents(output, "train")

    assert len(held) == len(HELD) + 1
    assert len(trained) == 3 * 60
    assert not set(held) & set(trained)

    said = json.loads((output / "statistics.json").read_text())
    assert said["left_out"] == {"in validation": 3}
    meta = open_dataset(output).meta
    assert {source.path for source in meta.sources} == {
        "data/train-0.jsonl",
        "data/train-1.jsonl",
        "data/train-2.jsonl",
        "data/validation-0.jsonl",
        "data/validation-1.jsonl",
    }


def test_names_that_say_test_bring_a_warning_and_those_of_our_validation_none(
    root: Path, folder: Path
) -> None:
    given = ["--source", folder, "--validation-files", "data/valid*"]
    done = run_prep("--dataset", "mine", "--tokenizer", "gpt2", "--root", root, *given)
    assert "warning: 1 source files are named like test or validation data" in done.stderr
    assert "data/test-0.jsonl" in done.stderr
    assert "--validation-files" in done.stderr

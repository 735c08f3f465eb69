from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import numpy as np
import pytest

from jobctl.jobs.core.errors import UserError
from jobctl.prep.shards import survey as surveys
from jobctl.prep.shards.format import Meta, TokenizerRecord
from jobctl.prep.shards.survey import RICH, id_problems, survey

META = Meta(
    dataset="d",
    dtype="uint32",
    vocab_size=100_000,
    tokenizer=TokenizerRecord(name="t", file="f", sha256="0"),
    eos_id=99_999,
    documents=0,
    tokens=0,
    text_bytes=0,
    shards=(),
)


def test_every_id_is_counted_and_the_bytes_are_hashed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(surveys, "CHUNK", 8)
    ids = np.array([1, 2, 2, 9, 0, 2, 9], "<u2")
    path = tmp_path / "a.bin"
    path.write_bytes(ids.tobytes())
    tokens, sha256, counts = survey(path, "uint16", 10)
    assert (tokens, sha256) == (7, hashlib.sha256(ids.tobytes()).hexdigest())
    assert counts.tolist() == [1, 1, 3, 0, 0, 0, 0, 0, 0, 2]


@pytest.mark.parametrize("wrong", [10, -1])
def test_an_id_outside_the_vocabulary_is_named_with_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: int
) -> None:
    monkeypatch.setattr(surveys, "CHUNK", 8)
    path = tmp_path / "a.bin"
    path.write_bytes(np.array([1, 2, 3, wrong, 4], "<i4").tobytes())
    with pytest.raises(UserError, match=r"a\.bin: token 3 is \d+, but the tokenizer has 10 ids"):
        survey(path, "uint32", 10)


def test_a_size_that_does_not_fit_and_a_file_that_is_gone_are_errors(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"abc")
    with pytest.raises(UserError, match="3 bytes are not a whole number of uint16 ids"):
        survey(tmp_path / "a.bin", "uint16", 10)

    with pytest.raises(UserError, match=r"gone\.bin cannot be read: No such file"):
        survey(tmp_path / "gone.bin", "uint16", 10)


def test_ids_that_were_cut_to_16_bits_are_found() -> None:
    counts = np.zeros(META.vocab_size, np.int64)
    counts[: RICH + 1] = 1
    [problem] = id_problems(counts, META)
    assert "the ids were cut to 16 bits" in problem

    counts[70_000] = 1
    assert id_problems(counts, META) == []
    assert id_problems(counts, msgspec.structs.replace(META, vocab_size=60_000, eos_id=59_999)) == []

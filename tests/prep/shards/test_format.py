from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import msgspec
import numpy as np
import pytest

from jobctl.jobs.core.errors import UserError
from jobctl.prep.shards import format as shards
from jobctl.prep.shards.format import (
    Meta,
    Shard,
    ShardWriter,
    TokenizerRecord,
    open_dataset,
    token_dtype,
    write_meta,
)


def dataset(
    folder: Path, parts: list[list[int]], vocab_size: int = 1000, val: list[int] | None = None
) -> Meta:
    folder.mkdir(exist_ok=True)
    records: list[Shard] = []
    splits = [("train", ids) for ids in parts] + ([("val", val)] if val is not None else [])
    for index, (split, ids) in enumerate(splits):
        with ShardWriter(folder / f"{split}-{index}.bin", split=split, vocab_size=vocab_size) as writer:
            writer.write(ids, documents=ids.count(0), text_bytes=len(ids))
        assert writer.record
        records.append(writer.record)
    meta = Meta(
        dataset="test",
        dtype=token_dtype(vocab_size),
        vocab_size=vocab_size,
        tokenizer=TokenizerRecord(name="test", file="tokenizer.json", sha256="0" * 64),
        eos_id=0,
        documents=sum(record.documents for record in records),
        tokens=sum(record.tokens for record in records),
        text_bytes=0,
        shards=tuple(records),
    )
    return write_meta(folder, meta)


def test_reads_across_shards_as_one_sequence(tmp_path: Path) -> None:
    parts = [[1, 2, 3, 0], [], [4, 0], [5, 6, 7, 8, 9, 0]]
    dataset(tmp_path / "d", parts)
    data = open_dataset(tmp_path / "d")
    whole = np.array([token for part in parts for token in part])
    assert data.num_tokens == len(whole)
    for start in range(len(whole) + 1):
        for stop in range(start, len(whole) + 1):
            assert data.read(start, stop - start).tolist() == whole[start:stop].tolist()


@pytest.mark.parametrize("can", [True, False])
def test_a_shard_is_written_to_the_disk_while_it_grows_where_the_system_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, can: bool
) -> None:
    monkeypatch.setattr(shards, "WRITTEN_BACK", 100)
    told: list[tuple[int, int, int]] = []
    with ShardWriter(tmp_path / "a.bin", split="train", vocab_size=1000) as writer:
        call = writer._write_back._call if can else None
        recorded = call and (
            lambda file, *given: (told.append(tuple(number.value for number in given)), call(file, *given))
        )
        monkeypatch.setattr(writer._write_back, "_call", recorded)
        for number in range(5):
            writer.write([number] * 30)  # 60 bytes
    begin, wait = shards.BEGIN, shards.WAIT
    assert told == ([(0, 120, begin), (0, 120, wait), (120, 120, begin)] if can else [])
    assert np.fromfile(tmp_path / "a.bin", "<u2").tolist() == [n for n in range(5) for _ in range(30)]


@pytest.mark.parametrize(("start", "count"), [(-1, 2), (0, 5), (5, 1), (1, -1)])
def test_reading_outside_the_split_is_an_index_error(tmp_path: Path, start: int, count: int) -> None:
    dataset(tmp_path, [[1, 2, 3, 0]])
    with pytest.raises(IndexError):
        open_dataset(tmp_path).read(start, count)


@pytest.mark.parametrize(("vocab_size", "dtype"), [(50257, "uint16"), (65536, "uint16"), (65537, "uint32")])
def test_sixteen_bits_only_where_every_id_fits(tmp_path: Path, vocab_size: int, dtype: str) -> None:
    dataset(tmp_path, [[1, vocab_size - 1, 0]], vocab_size)
    data = open_dataset(tmp_path)
    assert data.meta.dtype == dtype
    assert data.read(0, 3).tolist() == [1, vocab_size - 1, 0]
    on_disk = np.memmap(tmp_path / "train-0.bin", dtype=np.dtype(dtype).newbyteorder("<"), mode="r")
    assert on_disk.tolist() == [1, vocab_size - 1, 0]


@pytest.mark.parametrize("wrong", [1000, 70000, -1])
def test_an_id_outside_the_vocabulary_is_refused_and_leaves_nothing(tmp_path: Path, wrong: int) -> None:
    with (
        pytest.raises(UserError, match=f"token id {wrong}"),
        ShardWriter(tmp_path / "train.bin", split="train", vocab_size=1000) as writer,
    ):
        writer.write(np.array([3, wrong]))
    assert list(tmp_path.iterdir()) == []


def test_a_shard_has_no_name_before_it_is_whole(tmp_path: Path) -> None:
    with ShardWriter(tmp_path / "train.bin", split="train", vocab_size=10) as writer:
        writer.write([1, 2])
        assert not (tmp_path / "train.bin").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["train.bin"]


def test_a_full_disk_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "meta.json"
    path.write_text("old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shards.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        shards.write_whole(path, b"new")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("meta.json", "old")]


def test_absent_folder_and_unfinished_folder_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist") as missing:
        open_dataset(tmp_path / "nowhere")
    assert missing.value.hint == "prepare it with: jobctl submit prep --dataset NAME --tokenizer NAME"
    with pytest.raises(UserError, match="not prepared to the end"):
        open_dataset(tmp_path)


@pytest.mark.parametrize("size", [0, 6, 10])
def test_a_shard_of_another_size_is_named(tmp_path: Path, size: int) -> None:
    dataset(tmp_path, [[1, 2, 3, 0], [4, 0]])
    (tmp_path / "train-0.bin").write_bytes(b"\1" * size)
    with pytest.raises(UserError, match=r"train-0\.bin is (truncated|too long)"):
        open_dataset(tmp_path)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    dataset(tmp_path, [[1, 2, 3, 0], [4, 0]])
    (tmp_path / "train-1.bin").unlink()
    with pytest.raises(UserError, match=r"train-1\.bin"):
        open_dataset(tmp_path)


def test_an_edited_meta_is_refused(tmp_path: Path) -> None:
    dataset(tmp_path, [[1, 2, 3, 0]])
    path = tmp_path / "meta.json"
    path.write_text(path.read_text().replace('"eos_id": 0', '"eos_id": 1'))
    with pytest.raises(UserError, match="fingerprint"):
        open_dataset(tmp_path)


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b'{"format": 1}', b'{"dataset": "\xff"}', b'{"x": ' + b"[" * 200_000]
)
def test_a_damaged_meta_is_refused(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "meta.json").write_bytes(text)
    with pytest.raises(UserError, match=r"meta\.json"):
        open_dataset(tmp_path)


def test_a_meta_that_is_no_regular_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "meta.json")
    with pytest.raises(UserError, match=r"meta\.json: not a regular file"):
        open_dataset(tmp_path)


def test_an_unknown_split_gets_the_nearest_name(tmp_path: Path) -> None:
    dataset(tmp_path, [[1, 0]], val=[2, 0])
    assert open_dataset(tmp_path, "val").read(0, 2).tolist() == [2, 0]
    with pytest.raises(UserError, match="did you mean 'val'"):
        open_dataset(tmp_path, "valid")


def test_an_empty_split_is_an_error(tmp_path: Path) -> None:
    dataset(tmp_path, [[1, 0]], val=[])
    with pytest.raises(UserError, match=r"'val' .* is empty"):
        open_dataset(tmp_path, "val")


def test_the_fingerprint_depends_on_the_tokens_and_not_on_the_folder(tmp_path: Path) -> None:
    one, same, other = (
        dataset(tmp_path / name, [[1, last, 0]]) for name, last in (("a", 2), ("b", 2), ("c", 3))
    )
    assert one.fingerprint == same.fingerprint != other.fingerprint


def test_a_worker_process_gets_the_data_set_without_its_maps(tmp_path: Path) -> None:
    dataset(tmp_path, [[1, 2, 3, 0] * 50_000])
    data = open_dataset(tmp_path)
    data.read(0, 10)
    sent = pickle.dumps(data)
    assert len(sent) < 10_000
    assert pickle.loads(sent).read(4, 4).tolist() == [1, 2, 3, 0]


def test_older_readers_find_a_plain_dictionary(tmp_path: Path) -> None:
    dataset(tmp_path, [[1, 0]])
    older = pickle.loads((tmp_path / "meta.pkl").read_bytes())
    assert older["vocab_size"] == 1000
    assert older["dtype"] == "uint16"


def test_meta_says_what_the_shards_are(tmp_path: Path) -> None:
    dataset(tmp_path, [[1, 2, 0, 3, 0]])
    said = json.loads((tmp_path / "meta.json").read_text())
    assert (said["documents"], said["tokens"]) == (2, 5)
    assert said["shards"][0]["file"] == "train-0.bin"
    assert len(said["shards"][0]["sha256"]) == 64


@pytest.mark.parametrize("name", ["../secret.bin", "/etc/passwd", "a//b.bin"])
def test_a_shard_outside_the_data_set_is_refused(tmp_path: Path, name: str) -> None:
    meta = dataset(tmp_path / "d", [[1, 2, 3, 0]])
    (tmp_path / "secret.bin").write_bytes(b"\0" * 8)
    stray = msgspec.structs.replace(meta.shards[0], file=name)
    write_meta(tmp_path / "d", msgspec.structs.replace(meta, shards=(stray,)))
    with pytest.raises(UserError, match=r"meta\.json cannot be trusted: the name .* is refused"):
        open_dataset(tmp_path / "d")


def test_a_shard_that_is_a_link_is_refused(tmp_path: Path) -> None:
    dataset(tmp_path / "d", [[1, 2, 3, 0]])
    shard = tmp_path / "d" / "train-0.bin"
    shard.rename(tmp_path / "elsewhere.bin")
    shard.symlink_to(tmp_path / "elsewhere.bin")
    with pytest.raises(UserError, match=r"train-0\.bin is a symbolic link"):
        open_dataset(tmp_path / "d")

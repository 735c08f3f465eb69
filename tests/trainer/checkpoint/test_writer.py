"""What is written is what others read: the safetensors library, and a checksum made anew."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import xxhash
from safetensors import safe_open
from safetensors.torch import load_file

from jobctl.trainer.checkpoint import plan
from jobctl.trainer.checkpoint.contents import read_contents
from jobctl.trainer.checkpoint.plan import Rows
from jobctl.trainer.checkpoint.table import DTYPES
from jobctl.trainer.checkpoint.writer import PIECE_BYTES, cut, write_files
from tests.trainer.checkpoint.saving import data_files, save

TENSORS = {
    f"model.{name.lower()}": torch.arange(6).reshape(3, 2).to(dtype) for name, dtype in DTYPES.items()
} | {"optimizer.step": torch.tensor(7.0)}


def test_the_safetensors_library_reads_every_type(tmp_path: Path) -> None:
    (file,) = data_files(save(tmp_path, TENSORS))
    loaded = load_file(file)
    assert loaded.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name].float(), tensor.float())


def test_a_cut_tensor_lies_in_several_files_that_the_library_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "SEGMENT_BYTES", 1000)
    monkeypatch.setattr(plan, "LEAST_FILE_BYTES", 1000)
    weight = torch.randn(50, 20)

    files = data_files(save(tmp_path, {"model.w": weight}))

    assert len(files) == 4
    for path in files:
        with safe_open(path, "pt") as file:
            for label in file.keys():  # noqa: SIM118 - it is no dictionary
                start, stop = (int(number) for number in label[len("model.w[") : -1].split(":"))
                assert torch.equal(file.get_tensor(label), weight[start:stop])


def test_every_checksum_is_that_of_the_bytes_in_the_file(tmp_path: Path) -> None:
    folder = save(tmp_path, TENSORS)
    for entry in read_contents(folder).table.tensors.values():
        for segment in entry.segments:
            data = (folder / segment.file).read_bytes()[segment.begin : segment.end]
            assert xxhash.xxh3_128(data).hexdigest() == segment.xxh3_128


def test_files_are_written_at_once(tmp_path: Path) -> None:
    """Each writer waits until the other one has begun."""
    files = [[Rows(name, torch.uint8, (4,), 0, 4)] for name in "ab"]
    both = threading.Barrier(2, timeout=60)

    def source(rows: Rows) -> Iterator[memoryview]:
        both.wait()
        yield memoryview(rows.name.encode() * 4)

    written = write_files(tmp_path / "new", 3, files, source)
    assert [(name, segment.file) for name, segment in written] == [
        ("a", "rank-00003-00.safetensors"),
        ("b", "rank-00003-01.safetensors"),
    ]


def test_pieces_are_small_whatever_the_source_gives() -> None:
    data = memoryview(bytes(2 * PIECE_BYTES + 5))
    assert [len(piece) for piece in cut([data, data[:3]])] == [PIECE_BYTES, PIECE_BYTES, 5, 3]

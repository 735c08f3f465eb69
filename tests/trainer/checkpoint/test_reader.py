"""Any layout loads into any other, each byte is read once, and a wrong bit is found while it is read."""

import os
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from jobctl.trainer import distributed as parallel
from jobctl.trainer.checkpoint import plan, publication, reader
from jobctl.trainer.checkpoint.buffers import ThreadBuffers
from jobctl.trainer.checkpoint.contents import read_contents
from jobctl.trainer.checkpoint.table import Segment, TensorEntry
from jobctl.trainer.checkpoint.weights import read_tensors
from tests.trainer.checkpoint.saving import checkpointer, data_files, save, state
from tests.trainer.running import on_ranks


def tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        "model.matrix": torch.randn(7, 5, generator=generator),
        "model.half": torch.randn(9, generator=generator).bfloat16(),
        "optimizer.step": torch.tensor(3.0),
        "optimizer.flags": torch.tensor([True, False, True]),
    }


def read_into(folder: Path, live: dict[str, torch.Tensor]) -> list[str]:
    contents = read_contents(folder)
    return reader.read_tensors_into(folder, contents.table, live)


def test_what_was_saved_is_read(tmp_path: Path) -> None:
    folder = save(tmp_path, tensors())
    live = {name: torch.zeros_like(tensor) for name, tensor in tensors().items()}
    assert read_into(folder, live) == []
    assert all(torch.equal(live[name], tensor) for name, tensor in tensors().items())


def test_another_type_and_another_memory_layout_are_converted(tmp_path: Path) -> None:
    folder = save(tmp_path, tensors())
    live = {"model.matrix": torch.zeros(5, 7, dtype=torch.float64).t(), "model.half": torch.zeros(9)}
    assert read_into(folder, live) == []
    assert torch.equal(live["model.matrix"], tensors()["model.matrix"].double())
    assert torch.equal(live["model.half"], tensors()["model.half"].float())


@pytest.mark.parametrize("position", ["first", "middle", "last"])
def test_a_flipped_bit_is_found_and_said_with_its_place(tmp_path: Path, position: str) -> None:
    folder = save(tmp_path, tensors())
    segment = read_contents(folder).table.tensors["model.matrix"].segments[0]
    (file,) = data_files(folder)
    content = bytearray(file.read_bytes())
    byte = {"first": segment.begin, "middle": segment.begin + 70, "last": segment.end - 1}[position]
    content[byte] ^= 4
    file.write_bytes(content)

    (problem,) = read_into(folder, {name: torch.zeros_like(t) for name, t in tensors().items()})

    assert f"bytes {segment.begin} to {segment.end} (model.matrix): their checksum does not match" in problem


def test_a_file_that_shrinks_while_it_is_read_is_said(tmp_path: Path) -> None:
    folder = save(tmp_path, tensors())
    contents = read_contents(folder)
    (file,) = data_files(folder)
    file.write_bytes(file.read_bytes()[:-1])
    live = {name: torch.zeros_like(tensor) for name, tensor in tensors().items()}
    assert any(
        "it ends before byte" in line for line in reader.read_tensors_into(folder, contents.table, live)
    )
    file.unlink()
    assert any("No such file" in line for line in reader.read_tensors_into(folder, contents.table, live))


def test_every_byte_is_read_once_and_in_small_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "PIECE_BYTES", 16)
    seen: Counter[int] = Counter()
    read_all = reader.read_all

    def counting(descriptor: int, buffer: memoryview, position: int) -> bool:
        seen.update(range(position, position + len(buffer)))
        assert len(buffer) <= 16
        return read_all(descriptor, buffer, position)

    monkeypatch.setattr(reader, "read_all", counting)
    folder = save(tmp_path, tensors())
    live = {name: torch.zeros_like(tensor) for name, tensor in tensors().items()}
    assert read_into(folder, live) == []
    assert torch.equal(live["model.matrix"], tensors()["model.matrix"])
    assert set(seen.values()) == {1}
    assert len(seen) == sum(tensor.nbytes for tensor in tensors().values())


def sharded(world: parallel.World, values: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The first two tensors over the ranks, which their rows do not divide by; the others on every rank."""
    mesh = init_device_mesh("cpu", (world.size,))
    return {
        name: distribute_tensor(tensor.clone(), mesh, [Shard(0)])
        if name.startswith("model.")
        else tensor.clone()
        for name, tensor in values.items()
    }


def save_sharded(command: Any, world: parallel.World) -> bool:
    plan.SEGMENT_BYTES = 24  # one or two rows each
    checkpoints = checkpointer(Path(command[0]), sharded(world, tensors()), world)
    checkpoints.save(state())
    return checkpoints.wait()


def load_sharded(command: Any, world: parallel.World) -> bool:
    """Whether every rank has its part of what was saved, and has read no segment that it does not need."""
    live = sharded(world, {name: torch.zeros_like(tensor) for name, tensor in tensors().items()})
    read: list[reader.Transfer] = []
    carry_out = reader.carry_out
    reader.carry_out = lambda *arguments: (  # type: ignore[assignment]
        read.append(arguments[1]),
        carry_out(*arguments),
    )[1]
    resumed = checkpointer(Path(command[0]), live, world).resume(lambda state: None)
    reader.carry_out = carry_out

    expected = sharded(world, tensors())
    equal = all(torch.equal(parallel.local(live[name]), parallel.local(expected[name])) for name in live)
    needed = all(transfer.count > 0 for transfer in read)
    table = read_contents(publication.folder(Path(command[0]), 1)).table
    fewer = len(read) < sum(len(entry.segments) for entry in table.tensors.values())
    verdicts: list[bool] = [False] * world.size
    dist.all_gather_object(verdicts, resumed is not None and equal and needed and fewer)
    return all(verdicts)


@pytest.mark.parametrize(("written", "read"), [(3, 2), (2, 3), (4, 4)])
def test_uneven_shards_load_under_another_number_of_ranks(tmp_path: Path, written: int, read: int) -> None:
    assert on_ranks(written, [str(tmp_path)], action=save_sharded) == [True]
    assert on_ranks(read, [str(tmp_path)], action=load_sharded) == [True]
    whole = read_tensors(read_contents(publication.folder(tmp_path, 1)))
    assert all(torch.equal(whole[name], tensor) for name, tensor in tensors().items())


def test_any_other_layout_is_refused(tmp_path: Path) -> None:
    assert on_ranks(2, [str(tmp_path)], action=columns) == ["refused"]


def columns(command: Any, world: parallel.World) -> str:
    mesh = init_device_mesh("cpu", (world.size,))
    tensor: DTensor = distribute_tensor(torch.zeros(4, 4), mesh, [Shard(1)])
    try:
        plan.local_rows(tensor)
    except NotImplementedError:
        return "refused"
    return "accepted"


ENTRY = TensorEntry(
    "U8", (6, 2), (Segment("a", 100, 108, (0, 0), (4, 2)), Segment("b", 50, 54, (4, 0), (2, 2)))
)
"""Six rows of two bytes: four in one file, two in another."""


@pytest.mark.parametrize(
    ("start", "stop", "transfers"),
    [
        (0, 6, [("a", 0, 8, 0), ("b", 0, 4, 8)]),
        (1, 3, [("a", 2, 4, 0)]),
        (3, 5, [("a", 6, 2, 0), ("b", 0, 2, 2)]),
        (4, 6, [("b", 0, 4, 0)]),
        (5, 6, [("b", 2, 2, 0)]),
        (3, 3, []),
        (6, 6, []),
    ],
)
def test_a_rank_needs_of_each_segment_only_its_own_rows(
    start: int, stop: int, transfers: list[tuple[str, int, int, int]]
) -> None:
    target = torch.zeros(stop - start, 2, dtype=torch.uint8)
    needed = reader.overlapping("w", ENTRY, target, start, stop)
    assert [(t.segment.file, t.first, t.count, t.position) for t in needed] == transfers


@pytest.mark.parametrize("piece_bytes", [1, 3, 8, 100])
@pytest.mark.parametrize(("start", "stop"), [(0, 4), (1, 3), (2, 4), (3, 4)])
def test_the_edges_of_pieces_and_of_rows_need_not_meet(piece_bytes: int, start: int, stop: int) -> None:
    data = torch.arange(10, 18, dtype=torch.uint8)
    target = torch.zeros(stop - start, 2, dtype=torch.uint8)
    (transfer,) = reader.overlapping("w", ENTRY, target, start, stop)
    for begin in range(0, 8, piece_bytes):
        reader.copy_needed(transfer, data[begin : begin + piece_bytes], begin)
    assert target.flatten().tolist() == list(range(10 + 2 * start, 10 + 2 * stop))


def test_a_system_that_gives_fewer_bytes_than_asked_for_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network file system does so."""
    preadv = os.preadv
    monkeypatch.setattr(
        os, "preadv", lambda descriptor, buffers, place: preadv(descriptor, [buffers[0][:3]], place)
    )
    (tmp_path / "a").write_bytes(bytes(range(20)))
    buffer = bytearray(10)
    with open(tmp_path / "a", "rb") as file:
        assert reader.read_all(file.fileno(), memoryview(buffer), 5)
        assert bytes(buffer) == bytes(range(5, 15))
        assert not reader.read_all(file.fileno(), memoryview(buffer), 11), "one byte is missing"


def test_a_checkpoint_of_the_older_format_has_no_sums_of_segments(tmp_path: Path) -> None:
    """Its files have one each, which is compared elsewhere."""
    (tmp_path / "a").write_bytes(bytes(108))
    segment = ENTRY.segments[0]
    for known, said in (("", ""), ("0" * 32, "a: bytes 100 to 108 (w): their checksum does not match")):
        entry = TensorEntry("U8", (4, 2), (msgspec.structs.replace(segment, xxh3_128=known),))
        (transfer,) = reader.overlapping("w", entry, torch.zeros(4, 2, dtype=torch.uint8), 0, 4)
        buffers = ThreadBuffers(torch.device("cpu"))
        assert reader.carry_out(tmp_path, transfer, buffers) == said

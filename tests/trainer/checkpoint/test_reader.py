"""Any layout loads into any other, each byte is read once, and a wrong bit is found while it is read."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from jobctl.trainer import distributed as parallel
from jobctl.trainer.checkpoint import plan, publication, reader
from jobctl.trainer.checkpoint.contents import read_contents
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

"""Torch's flight records are read as JSON, whatever backend wrote them."""

from __future__ import annotations

import msgspec
import pytest
import torch

from jobctl.trainer.lifecycle import flight_record
from jobctl.trainer.lifecycle.flight_record import collectives, parse, switch_on, write_into


def entry(**facts: object) -> dict[str, object]:
    return {
        "collective_seq_id": 3,
        "profiling_name": "nccl:all_reduce",
        "process_group": ["0", "default_pg"],
        "input_sizes": [[4, 8], [2]],
        "input_dtypes": ["Float", "Half"],
        "state": "scheduled",
        "is_p2p": False,
        **facts,
    }


def record(*entries: dict[str, object]) -> bytes:
    return msgspec.json.encode({"version": "2.10", "entries": entries, "pg_status": {}})


def test_number_kind_shape_and_state_are_read() -> None:
    first, second = parse(record(entry(), entry(collective_seq_id=4, state="completed")))
    assert str(first) == "all_reduce of [4, 8] Float, [2] Half"
    assert (first.group, first.number, first.completed) == ("the default group (nccl)", 3, False)
    assert second.completed


@pytest.mark.parametrize(
    ("group", "name"),
    [
        (["1", "control"], "control (nccl)"),
        (["2", "undefined"], "group 2 (nccl)"),
        ([], "the default group (nccl)"),
    ],
)
def test_a_group_is_called_by_what_it_is_for(group: list[str], name: str) -> None:
    assert parse(record(entry(process_group=group)))[0].group == name


def test_messages_between_two_ranks_are_no_collectives() -> None:
    assert parse(record(entry(is_p2p=True))) == []


@pytest.mark.parametrize("data", [b"", b"\x80\x04K\x01.", b'{"entries": 3}', b'{"entries": [{"state": 1}]}'])
def test_what_is_no_record_is_refused_and_a_pickle_is_not_loaded(data: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        parse(data)


def test_only_the_last_of_each_group_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    many = [entry(collective_seq_id=number) for number in range(1, 200)]
    monkeypatch.setattr(
        flight_record, "_records", lambda: iter([record(*many), record(entry(process_group=["1", "x"]))])
    )
    numbers = [collective.number for collective in collectives()]
    assert numbers == [*range(150, 200), 3]


def test_a_process_without_a_group_has_no_collectives() -> None:
    assert isinstance(collectives(), tuple)


@pytest.mark.parametrize(
    ("version", "name"),
    [("2.6.0", "TORCH_NCCL_TRACE_BUFFER_SIZE"), ("2.13.0+cpu", "TORCH_FR_BUFFER_SIZE")],
)
def test_torch_is_asked_for_a_record_by_the_name_that_it_knows(
    version: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    for variable in (
        "TORCH_FR_BUFFER_SIZE", "TORCH_NCCL_TRACE_BUFFER_SIZE", "TORCH_NCCL_DUMP_ON_TIMEOUT",
        "TORCH_NCCL_DEBUG_INFO_TEMP_FILE", "TORCH_FR_DUMP_TEMP_FILE",
    ):  # fmt: skip
        monkeypatch.setenv(variable, "")
        monkeypatch.delenv(variable)
    monkeypatch.setenv("TORCH_NCCL_ASYNC_ERROR_HANDLING", "0")
    monkeypatch.setattr(torch, "__version__", version)

    from pathlib import Path

    switch_on()
    write_into(Path("/run/hang"))
    names = {"TORCH_FR_BUFFER_SIZE", "TORCH_NCCL_TRACE_BUFFER_SIZE"} & set(os.environ)
    assert names == {name}
    assert os.environ["TORCH_NCCL_DEBUG_INFO_TEMP_FILE"] == "/run/hang/nccl-trace-"
    assert os.environ["TORCH_NCCL_ASYNC_ERROR_HANDLING"] == "0", "what the user has set stays"

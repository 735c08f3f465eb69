import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from jobctl.jobs.core.errors import UserError
from jobctl.trainer.checkpoint.integrity import Damaged
from jobctl.trainer.checkpoint.state import (
    MIGRATIONS,
    STATE_FORMAT,
    decode_state,
    random_state,
    restore_random_state,
)
from tests.trainer.checkpoint.saving import state

FOLDER = Path("step-1")


def stored(**changes: Any) -> dict[str, Any]:
    return {**json.loads(msgspec.json.encode(state(random={"cpu": b"\x00\xff"}))), **changes}


def decoded(content: object) -> object:
    return decode_state(json.dumps(content).encode(), FOLDER)


def test_a_state_comes_back_as_it_was() -> None:
    assert decoded(stored()) == state(random={"cpu": b"\x00\xff"})


def test_a_state_without_a_format_has_the_first_order_of_samples() -> None:
    content = stored()
    assert content.pop("format") == STATE_FORMAT
    assert content.pop("sample_order")
    assert decoded(content) == state(random={"cpu": b"\x00\xff"}, sample_order=1)


def test_there_is_a_way_from_every_earlier_format() -> None:
    assert sorted(MIGRATIONS) == list(range(1, STATE_FORMAT))


def test_a_later_format_is_refused_in_words() -> None:
    with pytest.raises(UserError, match=r"state\.json has format 99, this version reads up to format"):
        decoded(stored(format=99))


def test_a_field_that_this_version_does_not_know_is_named() -> None:
    content = stored()
    content["train"]["no_longer_known"] = 1
    with pytest.raises(UserError, match=r"another version of the trainer: .*no_longer_known"):
        decoded(content)


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"3", b'{"format": "x"}', b'{"format": 0}', b"\xff\xfe", b"[" * 100_000],
    ids=lambda data: repr(data[:16]),
)
def test_anything_else_is_damage(data: bytes) -> None:
    with pytest.raises(Damaged, match=r"state\.json"):
        decode_state(data, FOLDER)


def test_the_random_state_is_restored() -> None:
    before = random_state()
    drawn = torch.rand(3)
    restore_random_state(before)
    assert torch.equal(torch.rand(3), drawn)

"""A machine that computes wrongly is named; one that computes rightly trains as if nobody had looked."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
import torch

from jobctl.jobs.catalog.schema import TrainConfig
from jobctl.jobs.core.errors import UserError
from jobctl.trainer.__main__ import is_hardware
from jobctl.trainer.distributed import Sharding, World
from jobctl.trainer.training.replay import Replay, WrongBits, bit_sums, check_can_repeat
from tests.trainer.corpus import arguments, write_corpus
from tests.trainer.running import ALONE, losses, on_ranks, prepare, train


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("data") / "data")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_flipped_bit_is_seen_a_hundred_times_of_a_hundred(dtype: torch.dtype) -> None:
    chance = random.Random(0)
    gradients = [torch.randn(37, 11).to(dtype), torch.randn(5).to(dtype)]
    before = bit_sums(gradients)
    integers = {torch.float32: torch.int32, torch.bfloat16: torch.int16}[dtype]
    bits = torch.iinfo(integers).bits
    seen = 0

    for _ in range(100):
        words = chance.choice(gradients).view(integers).reshape(-1)
        place = chance.randrange(len(words))
        flip = torch.tensor(1 << chance.randrange(bits - 1), dtype=integers)
        words[place] ^= flip
        seen += bool((bit_sums(gradients) != before).any())
        words[place] ^= flip

    assert seen == 100
    assert torch.equal(bit_sums(gradients), before)


@pytest.mark.parametrize("accumulation", [1, 2])
def test_training_gives_the_same_losses_with_it(data: Path, tmp_path: Path, accumulation: int) -> None:
    shape = {"gradient_accumulation_steps": accumulation}
    assert train(arguments(data, tmp_path / "plain", **shape)) == 0
    assert train(arguments(data, tmp_path / "checked", verify_replay=2, **shape)) == 0
    assert losses(tmp_path / "checked") == losses(tmp_path / "plain")


@pytest.mark.parametrize("accumulation", [1, 2])
def test_two_ranks_give_the_same_losses_with_it(data: Path, tmp_path: Path, accumulation: int) -> None:
    shape = {"gradient_accumulation_steps": accumulation}
    plain = arguments(data, tmp_path / "plain", **shape)
    checked = arguments(data, tmp_path / "checked", verify_replay=2, **shape)
    assert on_ranks(2, plain, checked) == [0, 0]
    assert losses(tmp_path / "checked") == losses(tmp_path / "plain")


def faulty(command: Sequence[str], world: World) -> str:
    """Train on a machine that flips a bit of a gradient on the last rank; the error."""
    training = prepare(command, world)
    stepper = training.run.stepper
    bits = stepper.bits
    calls = 0

    def flipping(loss: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 2 and world.rank == world.size - 1:
            gradient = stepper.gradients.local_gradients()[3]
            gradient.view(torch.int32).reshape(-1)[0] ^= 1
        return bits(loss)

    stepper.bits = flipping  # type: ignore[method-assign]
    try:
        training.train_to_the_end()
    except WrongBits as error:
        return str(error)
    return "nothing seen"


def test_a_flipped_bit_ends_the_run_and_names_step_rank_and_tensor(data: Path, tmp_path: Path) -> None:
    text = faulty(arguments(data, tmp_path, verify_replay=2, log_interval=2), ALONE)
    assert text.startswith("step 2: the same micro-batch gave other gradients the second time, on rank 0 (")
    assert "1 of " in text
    assert "this machine computes wrongly" in text
    assert is_hardware(WrongBits(text))


def test_steps_between_are_not_repeated() -> None:
    replay = Replay(100)
    due = []
    for step in (1, 99, 100, 101, 200):
        replay.begin_step(step)
        due.append(replay.is_due)
    assert due == [False, False, True, False, True]
    never = Replay(0)
    never.begin_step(100)
    assert not never.is_due


@pytest.mark.parametrize(
    ("sharding", "unrepeatable", "words"),
    [
        ("none", "what it costs was measured on Hopper only", "this run's bits do not repeat"),
        ("fsdp", "", "gradients are sharded"),
        ("zero1", "", "gradients are sharded"),
    ],
)
def test_what_need_not_be_equal_is_refused(sharding: Sharding, unrepeatable: str, words: str) -> None:
    train = msgspec.structs.replace(TrainConfig(), verify_replay=100)
    with pytest.raises(UserError, match=words):
        check_can_repeat(train, sharding, unrepeatable)
    check_can_repeat(TrainConfig(), sharding, unrepeatable)

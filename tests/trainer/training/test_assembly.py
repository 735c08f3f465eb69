"""How a run is put together: the same on every rank, from the right start, in the right order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from jobctl.jobs.catalog.schema import TrainConfig
from jobctl.jobs.core.errors import UserError
from jobctl.trainer.checkpoint import publication
from jobctl.trainer.distributed import World
from jobctl.trainer.models.building import build_model
from jobctl.trainer.training import assembly
from jobctl.trainer.training.assembly import build_whole_model, choose_start, together
from tests.trainer.corpus import arguments, write_corpus
from tests.trainer.models import tiny
from tests.trainer.running import ALONE, prepare

CPU = torch.device("cpu")
TRAIN = TrainConfig(dtype="float32", compile=False, seed=7)


class Ranks(World):
    """Three ranks, of which the second one refuses with ``refusal``."""

    refusal = ("", "", 0)

    def gathered(self, value: Any, group: Any = None) -> list[Any]:
        return [value, self.refusal, ("", "", 0)]


def ranks(refusal: tuple[str, str, int] = ("", "", 0)) -> Ranks:
    made = Ranks(rank=0, size=3, device=CPU)
    object.__setattr__(made, "refusal", refusal)
    return made


def test_what_one_rank_cannot_do_is_an_error_on_all_of_them() -> None:
    """Or the others would wait in the next collective for a rank that has ended."""
    with pytest.raises(UserError, match=r"its disk is full \(on rank 1\)") as refused:
        together(ranks(("its disk is full", "free some", 1)), lambda: "done")
    assert (refused.value.hint, refused.value.code) == ("free some", 1)


def test_the_first_rank_speaks_for_itself_without_a_number() -> None:
    def refuses() -> None:
        raise UserError("no such data set", hint="name another", code=2)

    with pytest.raises(UserError, match="no such data set") as refused:
        together(ranks(), refuses)
    assert refused.value.message == "no such data set"
    assert (refused.value.hint, refused.value.code) == ("name another", 2)


def test_a_fault_of_the_program_is_not_exchanged() -> None:
    with pytest.raises(ZeroDivisionError):
        together(ranks(), lambda: 1 // 0)


def test_each_rank_keeps_its_own_result() -> None:
    assert together(ranks(), lambda: 42) == 42


@pytest.mark.parametrize(
    ("init_from", "steps", "damaged", "outcome"),
    [
        ("auto", [], [], False),
        ("auto", [2], [], True),
        ("auto", [2], ["step-4"], True),
        ("auto", [], ["step-4"], "every checkpoint of .* is damaged: step-4"),
        ("scratch", [], ["step-4"], False),
        ("scratch", [2], [], "has checkpoints up to step 2"),
        ("resume", [2], [], True),
        ("resume", [], [], "has no checkpoint"),
        ("hf:gpt2", [2], [], True),
    ],
)
def test_a_run_goes_on_or_begins_and_never_guesses(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    init_from: str,
    steps: list[int],
    damaged: list[str],
    outcome: bool | str,
) -> None:
    monkeypatch.setattr(publication, "steps", lambda run: steps)
    monkeypatch.setattr(publication, "damaged", lambda run: [run / name for name in damaged])
    train = msgspec.structs.replace(TRAIN, init_from=init_from)
    if isinstance(outcome, bool):
        assert choose_start(tmp_path, train) == outcome
        return
    with pytest.raises(UserError, match=outcome):
        choose_start(tmp_path, train)


def test_an_evaluation_needs_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no checkpoint to evaluate"):
        choose_start(tmp_path, msgspec.structs.replace(TRAIN, eval_only=True))


def test_the_weights_follow_from_the_seed_whatever_was_drawn_before() -> None:
    """Ranks draw different numbers before they come here, and must hold the same weights."""
    built = []
    for before in (0, 3):
        torch.randn(before)
        model, _ = build_whole_model(tiny.config("qwen3"), TRAIN, CPU)
        built.append(model.state_dict())
    assert all(torch.equal(built[0][name], built[1][name]) for name in built[0])


def test_without_a_compiler_no_weight_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """A large model takes minutes, and the answer is known before."""
    made: list[object] = []
    monkeypatch.setattr(assembly, "build_model", lambda *given: made.append(given) or build_model(*given))
    monkeypatch.setattr(assembly.compilers, "cpu_compile_lacks", lambda: "no C++ compiler")
    with pytest.raises(UserError, match="--compile=True on cpu: no C") as refused:
        build_whole_model(tiny.config("qwen3"), msgspec.structs.replace(TRAIN, compile=True), CPU)
    assert "--compile=False" in refused.value.hint
    assert made == []


def test_the_checkpoint_has_every_weight_and_all_of_the_optimisers_state(tmp_path: Path) -> None:
    """Also before the first step, so that a checkpoint can be loaded into it."""
    data = write_corpus(tmp_path / "data")
    run = prepare(arguments(data, tmp_path / "run", skip_loss_spikes=6.0)).run
    tensors = run.checkpoints.tensors()
    model = run.stepper.model.state_dict()
    assert {name.removeprefix("model.") for name in tensors if name.startswith("model.")} == model.keys()
    for name in model:
        assert f"optimizer.{name}.exp_avg" in tensors
    assert "guard.losses" in tensors
    # The very tensors that train, so that loading needs no second copy.
    assert tensors["model.norm.weight"].data_ptr() == model["norm.weight"].data_ptr()


def test_what_a_killed_attempt_was_writing_goes_and_an_evaluation_leaves_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The training whose run an evaluation reads may be writing at this moment."""
    claims: list[object] = []
    monkeypatch.setattr(assembly.Checkpointer, "claim", lambda self: claims.append(self))
    monkeypatch.setattr(assembly, "restore", lambda run, allowed: None)
    data = write_corpus(tmp_path / "data")
    run = prepare(arguments(data, tmp_path / "run")).run
    assert len(claims) == 1

    run.recipe = run.recipe.__class__(
        run.recipe.name,
        run.recipe.model,
        msgspec.structs.replace(run.recipe.train, eval_only=True),
        run.recipe.sources,
    )
    options = assembly.Options(flags={"eval_only": True}, run_dir=tmp_path / "run")
    assembly.begin(run, resume=True, options=options)
    assert len(claims) == 1


def test_one_process_shares_with_nobody(tmp_path: Path) -> None:
    data = write_corpus(tmp_path / "data")
    run = prepare(arguments(data, tmp_path / "run", use_zero1=True)).run
    assert run.sharding == "none"
    assert run.world is ALONE

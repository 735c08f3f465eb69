"""What surrounds the loop: its time limits, its signals, and what is left when it fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jobctl.jobs.core.errors import UserError
from jobctl.trainer.lifecycle.heartbeat import Heartbeat
from jobctl.trainer.lifecycle.rank_notes import FOLDER, NoteFolder
from jobctl.trainer.lifecycle.stop import StopRequest
from jobctl.trainer.lifecycle.watchdog import STORAGE_TIMEOUTS
from jobctl.trainer.options import Options
from jobctl.trainer.training import session
from jobctl.trainer.training.session import COLLECTIVES_SECONDS, collectives_timeout, hang_timeout
from tests.trainer.running import ALONE, Screen


def options(run: Path, **flags: Any) -> Options:
    return Options(flags=flags, run_dir=run)


@pytest.mark.parametrize("asked", [{}, {"hang_timeout": 60}, {"hang_timeout": 40_000}], ids=str)
def test_the_watchdog_always_ends_a_hang_before_torch_does(tmp_path: Path, asked: dict[str, int]) -> None:
    """It knows what each rank was doing, and torch does not."""
    given = options(tmp_path, **asked)
    assert collectives_timeout(given) > hang_timeout(given) * STORAGE_TIMEOUTS
    assert collectives_timeout(given) >= COLLECTIVES_SECONDS


class Order:
    """What a session did, in turn."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.did: list[str] = []
        for owner, name in (
            (StopRequest, "watch_signals"),
            (StopRequest, "forget_earlier_launch"),
            (Heartbeat, "__enter__"),
            (Heartbeat, "__exit__"),
        ):
            monkeypatch.setattr(owner, name, self.noting(name))
        monkeypatch.setattr(session, "attempted", self.noting("attempted", returns=0))

    def noting(self, name: str, returns: object = None) -> Any:
        def note(*_: object, **__: object) -> object:
            self.did.append(name)
            return returns

        return note


def test_signals_are_caught_first_and_a_request_is_forgotten_only_once_the_run_is_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the heartbeat is ours, the request may be meant for an attempt that still lives."""
    order = Order(monkeypatch)
    assert session.train(options(tmp_path), ALONE, 1, Screen()) == 0  # type: ignore[arg-type]
    assert order.did == ["watch_signals", "__enter__", "forget_earlier_launch", "attempted", "__exit__"]


def test_an_evaluation_takes_no_run_and_no_signals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may go on beside a training in the same directory, whose heartbeat and stop file are not its own."""
    order = Order(monkeypatch)
    assert session.train(options(tmp_path, eval_only=True), ALONE, 1, Screen()) == 0  # type: ignore[arg-type]
    assert order.did == ["attempted"]


@pytest.mark.parametrize(
    ("error", "heals"),
    [(RuntimeError("NCCL error: unhandled system error"), True), (UserError("wrong"), False)],
    ids=["network", "usage"],
)
def test_a_failure_leaves_a_note_for_the_launcher_and_goes_on_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, heals: bool
) -> None:
    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(session, "assemble", fails)
    # The launcher's folder goes into the environment, which the test gives back.
    monkeypatch.setenv(FOLDER, "")
    notes = NoteFolder()
    stop = StopRequest(tmp_path, ALONE)
    with (tmp_path / "stderr").open("w") as stderr:
        monkeypatch.setattr(session.sys, "stderr", stderr)
        with pytest.raises(type(error)):
            session.attempted(options(tmp_path), ALONE, stop, 1, Screen())  # type: ignore[arg-type]
    assert notes.take()[0].heals == heals

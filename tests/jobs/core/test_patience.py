"""A service that does not answer is asked again: with growing pauses, one message, and an end."""

from __future__ import annotations

import pytest

from jobctl.jobs.core.errors import UserError
from jobctl.jobs.core.patience import Patience, Spell, Unanswered, ask, retry


class Service:
    """Answers after some failures, and keeps what the caller is told and how long it sleeps."""

    def __init__(self, failures: int, wait: float = 0.0) -> None:
        self.failures = failures
        self.wait = wait
        self.requests = 0
        self.notices: list[str] = []
        self.pauses: list[float] = []

    def request(self) -> str:
        self.requests += 1
        if self.requests <= self.failures:
            raise Unanswered(f"down {self.requests}", UserError(f"no answer {self.requests}"), self.wait)
        return "answer"

    def asked(self, total: float = 600.0) -> str:
        limits = Patience(total, first_pause=1.0, longest_pause=4.0)
        return ask(self.request, limits, announce=self.notices.append, sleep=self.pauses.append)


def test_an_answer_at_once_needs_no_patience() -> None:
    service = Service(failures=0)
    assert service.asked(total=0.0) == "answer"
    assert (service.notices, service.pauses) == ([], [])


def test_pauses_grow_up_to_the_longest_and_one_message_is_said() -> None:
    service = Service(failures=5)
    assert service.asked() == "answer"
    assert service.pauses == [1.0, 2.0, 4.0, 4.0, 4.0]
    assert service.notices == ["down 1"]


def test_the_service_may_ask_for_a_longer_pause_within_the_longest() -> None:
    service = Service(failures=2, wait=3.0)
    service.asked()
    assert service.pauses == [3.0, 3.0]
    service = Service(failures=1, wait=900.0)
    service.asked()
    assert service.pauses == [4.0]


def test_when_the_time_is_over_the_last_trouble_is_the_error() -> None:
    service = Service(failures=9)
    with pytest.raises(UserError, match="no answer 1"):
        service.asked(total=0.0)
    assert (service.notices, service.pauses) == ([], [])


def test_any_other_error_is_not_tried_again() -> None:
    def refuse() -> str:
        raise UserError("refused")

    with pytest.raises(UserError, match="refused"):
        ask(refuse, Patience(60, 1, 4), announce=lambda _: None, sleep=lambda _: None)


class Transfer:
    """Breaks some times, and keeps what happened."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.events: list[str | float] = []

    def run(self) -> str:
        self.events.append("action")
        if self.errors:
            raise self.errors.pop(0)
        return "done"

    def retried(self, monkeypatch: pytest.MonkeyPatch) -> str:
        monkeypatch.setattr("time.sleep", self.events.append)
        return retry(
            self.run,
            lambda error: isinstance(error, ConnectionError),
            tries=3,
            first_pause=1.0,
            prepare=lambda: self.events.append("prepare"),
        )


def test_a_transfer_that_breaks_is_prepared_and_done_again(monkeypatch: pytest.MonkeyPatch) -> None:
    transfer = Transfer(ConnectionError(), ConnectionError())
    assert transfer.retried(monkeypatch) == "done"
    assert transfer.events == ["action", 1.0, "prepare", "action", 2.0, "prepare", "action"]


def test_the_last_error_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    transfer = Transfer(ConnectionError("1"), ConnectionError("2"), ConnectionError("3"))
    with pytest.raises(ConnectionError, match="3"):
        transfer.retried(monkeypatch)
    assert transfer.events.count("action") == 3


def test_an_error_that_does_not_pass_is_raised_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    transfer = Transfer(ConnectionError(), ValueError("no such file"))
    with pytest.raises(ValueError, match="no such file"):
        transfer.retried(monkeypatch)
    assert transfer.events == ["action", 1.0, "prepare", "action"]


def test_a_spell_begins_again_after_a_break(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([10.0, 14.0, 20.0, 21.0])
    monkeypatch.setattr("jobctl.jobs.core.patience.time.monotonic", lambda: next(times))
    spell = Spell()
    looks = [True, True, False, True, True]
    assert [spell.seconds(holds) for holds in looks] == [0.0, 4.0, None, 0.0, 1.0]

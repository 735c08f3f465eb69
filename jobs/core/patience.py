"""Repeat an action that may fail for a while.

``ask`` has a time limit, for a service. ``retry`` has a limit of tries, for a transfer.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple, TypeVar

Answer = TypeVar("Answer")


class Unanswered(Exception):
    """A request got no usable answer. The same request may succeed later."""

    def __init__(self, notice: str, final: Exception, wait: float = 0.0) -> None:
        super().__init__(notice)
        self.notice = notice
        """The message to the user while we wait."""
        self.final = final
        """The error to raise when the time is over."""
        self.wait = wait
        """Seconds that the service wants us to wait before the next request."""


class Patience(NamedTuple):
    """The limits for repeated requests, in seconds. Each pause is twice as long as the one before."""

    total: float
    first_pause: float
    longest_pause: float


class Spell:
    """The time for which a condition has been true without a break."""

    def __init__(self) -> None:
        self._since: float | None = None

    def seconds(self, holds: bool) -> float | None:
        """Return the seconds for which every call saw it true, or None if it is not true now."""
        if not holds:
            self._since = None
            return None

        now = time.monotonic()
        if self._since is None:
            self._since = now

        return now - self._since


def ask(
    request: Callable[[], Answer],
    patience: Patience,
    *,
    announce: Callable[[str], None],
    sleep: Callable[[float], None] = time.sleep,
) -> Answer:
    """Return the result of ``request``. If it raises Unanswered, call it again after a pause.

    ``announce`` gets one message, before the first pause. When the time is over, ``ask`` raises the error
    that the last Unanswered holds. Any other error of ``request`` passes through at once.
    """
    deadline = time.monotonic() + patience.total
    pause = patience.first_pause
    announced = False

    while True:
        try:
            return request()
        except Unanswered as trouble:
            # Asked after a try, so that there is one even without any patience.
            if time.monotonic() >= deadline:
                raise trouble.final from None

            if not announced:
                announce(trouble.notice)
                announced = True

            # A service may ask for an hour. The user's time limit comes first.
            wanted = min(trouble.wait, patience.longest_pause)

        sleep(max(pause, wanted))
        pause = min(2 * pause, patience.longest_pause)


def retry(
    action: Callable[[], Answer],
    passes: Callable[[Exception], bool],
    *,
    tries: int,
    first_pause: float,
    prepare: Callable[[], None] = lambda: None,
) -> Answer:
    """Return the result of ``action``. Call it at most ``tries`` times.

    After an error that ``passes`` accepts, wait and call ``prepare``. Each pause is twice as long as the one
    before. Raise any other error at once, and also the error of the last try.
    """
    number = 1
    while True:
        try:
            if number > 1:
                prepare()

            return action()
        except Exception as error:
            if number >= tries or not passes(error):
                raise

        time.sleep(first_pause * 2 ** (number - 1))
        number += 1

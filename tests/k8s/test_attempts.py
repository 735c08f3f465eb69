"""The attempt of a running pod, from the first lines of its log."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest

from jobctl.k8s.api import Api
from jobctl.k8s.attempts import read_attempt
from jobctl.k8s.pods import Pod

POD = Pod(name="r-0", uid="u", index=0, phase="Running", created="", container="node", running=True)


class Log:
    """An API server that has one log, in pieces; it breaks at an exception."""

    def __init__(self, *pieces: bytes | Exception) -> None:
        self.pieces = pieces
        self.asked: list[tuple[str, dict[str, str]]] = []

    def stream(self, path: str, query: dict[str, str], subject: str) -> Iterator[bytes]:
        self.asked.append((path, query))
        for piece in self.pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece


def attempt_of(*pieces: bytes | Exception) -> int:
    return read_attempt(cast("Any", Log(*pieces)), "lab", POD)


@pytest.mark.parametrize(
    ("pieces", "attempt"),
    [
        ((b"jobctl: run r, attempt 12, pod 0 on n1\nstep 1\n",), 12),
        ((b"jobctl: waits for pod 1\njobctl: run r, att", b"empt 3, pod 0 on n1\n"), 3),
        ((b"step 1\n",), 0),
        ((b"\xff\n  jobctl: run r, attempt 9, pod 0 on n1\n",), 0),
        ((b"jobctl: run r, attempt 2, ", ConnectionError("cut")), 0),
        ((), 0),
    ],
)
def test_the_line_that_a_pod_begins_with_says_its_attempt(
    pieces: tuple[bytes | Exception, ...], attempt: int
) -> None:
    assert attempt_of(*pieces) == attempt


def test_only_the_head_of_the_training_containers_log_is_read() -> None:
    log = Log()
    read_attempt(cast("Api", log), "lab", POD)
    ((path, query),) = log.asked
    assert path.endswith("/namespaces/lab/pods/r-0/log")
    assert query == {"container": "node", "limitBytes": "16384"}

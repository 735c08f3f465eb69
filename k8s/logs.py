"""The logs of a run's pods: one rank's, the batch script's, or all; across cut streams and new pods.

A pod's log holds the lines of its batch script as they are, and those of its ranks behind ``[rank N] ``
(``templates/kubernetes/script.sh.j2``).
"""

from __future__ import annotations

import queue
import re
import threading
import time
from collections.abc import Callable, Iterator

from jobctl.jobs.core.errors import UserError
from jobctl.k8s.api import Api
from jobctl.k8s.attempts import ATTEMPT_LINE
from jobctl.k8s.pods import Pod
from jobctl.k8s.refusals import Refused
from jobctl.k8s.resources import POD

POLL_SECONDS = 2.0
FRUITLESS_TRIES = 5
"""Cut streams in a row without a line. After that, reading a log that does not grow fails."""
_RANK = re.compile(r"\[rank (\d+)\] (.*)")


class Wanted:
    """Which lines of one pod's log are asked for. Knows the attempt by the line that each begins with."""

    def __init__(self, rank: int | None, attempt: int | None) -> None:
        self._rank = rank
        self._attempt = attempt
        self._now: int | None = None

    def pick(self, line: str) -> str | None:
        """Return the text to print for ``line``, or None."""
        if begins := ATTEMPT_LINE.match(line):
            self._now = int(begins[1])

        if self._attempt is not None and self._now != self._attempt:
            return None

        ranked = _RANK.match(line)
        if self._rank is None:
            return None if ranked else line

        return ranked[2] if ranked and int(ranked[1]) == self._rank else None


def read_log(api: Api, namespace: str, pod: Pod, follow: bool, since: str = "") -> Iterator[tuple[str, str]]:
    """Yield ``(time, line)`` of a pod's log from the second ``since`` on. Raises ConnectionError if cut."""
    query = {"container": pod.container, "timestamps": "true"}
    query |= {"follow": "true"} if follow else {}
    query |= {"sinceTime": since} if since else {}
    rest = b""
    path = f"{POD.path(namespace, pod.name)}/log"

    for piece in api.stream(path, query, f"reading the log of {pod.name}"):
        # A piece may end inside a line, even inside a character.
        *lines, rest = (rest + piece).split(b"\n")
        yield from (_stamped(line) for line in lines)

    if rest:
        yield _stamped(rest)


def _stamped(line: bytes) -> tuple[str, str]:
    stamp, _, text = line.decode("utf-8", "replace").partition(" ")
    return stamp, text


class _Unseen:
    """The new lines of a log, if it is read again from a full second on."""

    def __init__(self) -> None:
        self.last = ""
        # Lines of the time ``last``: printed already, and met since the log was asked for.
        self._seen = 0
        self._again = 0

    def start(self) -> None:
        self._again = 0

    def is_new(self, stamp: str) -> bool:
        if stamp < self.last:
            return False

        if stamp > self.last:
            self.last = stamp
            self._seen = 0
            self._again = 0

        self._again += 1
        if self._again <= self._seen:
            return False

        self._seen += 1

        return True


def follow_pod(
    api: Api, namespace: str, index: int, look: Callable[[], tuple[list[Pod], bool]], follow: bool
) -> Iterator[str]:
    """Yield lines of the pod at ``index``; with ``follow`` until the job has ended, and of its successors.

    That is another pod, or its container when it is started again, each of which has a log of its own.
    ``look`` says which pods there are and whether the job has ended.
    """
    life = ""
    unseen = _Unseen()
    cuts = 0

    while True:
        pods, over = look()
        pod = next((pod for pod in pods if pod.index == index), None)
        if pod is not None and pod.life != life:
            life = pod.life
            unseen = _Unseen()

        # Read before the log: lines that come after the job has ended are then still read, once.
        done = over or not follow
        # A pod that still waits has no log, and the server would refuse the question.
        if pod is not None and (pod.running or pod.exit_code is not None):
            before = unseen.last
            unseen.start()
            try:
                # The server takes full seconds only, so lines of the last second come again, and unseen drops
                # them.
                for stamp, line in read_log(api, namespace, pod, follow and pod.running, unseen.last):
                    if unseen.is_new(stamp):
                        yield line
            except ConnectionError as error:
                # A cut after new lines is no sign of a dead connection.
                cuts = 1 if unseen.last > before else cuts + 1
                if cuts > FRUITLESS_TRIES and done:
                    raise UserError(str(error), code=1) from None

                # Once more, because the last lines may be missing.
                done = False
            except Refused as refusal:
                if refusal.status not in (400, 404):  # a container that is not up yet, a pod just replaced
                    raise

        if done:
            return

        time.sleep(POLL_SECONDS)


def pod_logs(
    api: Api,
    namespace: str,
    look: Callable[[], tuple[list[Pod], bool]],
    *,
    index: int,
    rank: int | None,
    attempt: int | None,
    follow: bool,
) -> Iterator[str]:
    """Yield lines of one rank, or of the batch script. Raises UserError if none are there or to come."""
    wanted = Wanted(rank, attempt)
    some = False
    for line in follow_pod(api, namespace, index, look, follow):
        if (text := wanted.pick(line)) is not None:
            some = True
            yield text

    if not some:
        who = "the batch script" if rank is None else f"rank {rank}"
        raise UserError(
            f"no log of {who}" + (f" in attempt {attempt}" if attempt else ""),
            hint="the logs of deleted pods are on the volume: jobctl collect RUN -o DIR",
            code=1,
        )


def all_logs(
    api: Api, namespace: str, look: Callable[[], tuple[list[Pod], bool]], pods: int, follow: bool
) -> Iterator[str]:
    """Yield lines of all pods as they arrive, behind the pod's place. Lines of ranks name the rank."""
    # Bounded: a reader that is slow must not fill the memory.
    lines: queue.Queue[str | BaseException | None] = queue.Queue(maxsize=10_000)

    def copy(index: int) -> None:
        try:
            for line in follow_pod(api, namespace, index, look, follow):
                lines.put(f"pod {index}: {line}")

            lines.put(None)
        except BaseException as error:
            # Handed over and not raised here: the reader would wait for this pod for ever.
            lines.put(error)

    for index in range(pods):
        # daemon: a log that is followed must not keep the program alive.
        threading.Thread(target=copy, args=(index,), daemon=True).start()

    open_ = pods

    while open_:
        line = lines.get()
        if line is None:
            open_ -= 1
        elif isinstance(line, BaseException):
            raise line
        else:
            yield line

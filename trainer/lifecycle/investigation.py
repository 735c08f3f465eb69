"""Investigate a hang: every rank reports its place, one names the missing rank, and all end.

The ranks talk through torchrun's key-value store. It lives in the launcher, and so needs no collective and no
rank that works.
"""

from __future__ import annotations

import contextlib
import datetime
import logging
import os
import signal
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import msgspec
from torch.distributed import PrefixStore, Store, TCPStore  # type: ignore[attr-defined]

from jobctl.jobs.core.amounts import duration
from jobctl.jobs.core.durable import write_whole
from jobctl.jobs.core.layout import hang_dir, hang_file
from jobctl.trainer.distributed import World
from jobctl.trainer.lifecycle import flight_record, stacks, verdict
from jobctl.trainer.lifecycle.dump import Dump, Place
from jobctl.trainer.lifecycle.heartbeat import machine
from jobctl.trainer.lifecycle.rank_notes import RankNotes

log = logging.getLogger(__name__)
GATHER_SECONDS = 15.0
"""Seconds in which a rank must report its place."""
ORDER_SECONDS = 2.0
"""Seconds for which higher ranks leave the verdict to the lowest rank that has answered."""
VERDICT_SECONDS = 15.0
"""Seconds for which ranks wait for the verdict before they end."""
GONE = ("", "Z", "X")
"""States of a process that has ended (proc(5))."""
TIMES_GONE = 3
"""Times in a row that a rank must be seen dead."""
POLL_SECONDS = 0.2
STORE_SECONDS = 10.0
"""Time in which the store must answer."""


LOST = "lost"
"""Key of the rank that has died."""


class Exchange:
    """The messages of the ranks in a hang. A single rank has nobody to send them to."""

    def __init__(self, world: World) -> None:
        self.rank = world.rank
        self.size = world.size
        self.store: Store | None = None
        self.address = ""
        # A fresh name for each start, so that no message of an earlier one is read.
        name = world.from_main(uuid.uuid4().hex)
        if world.size > 1:
            self.address = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}/{name}"
            self.store = store_at(self.address)

    def is_called(self) -> bool:
        """Return whether a rank has found a hang."""
        return self.store is not None and self.store.check(["called"])

    def tell(self, dump: Dump) -> None:
        """Call the other ranks, and send them the report of this one."""
        if self.store is not None:
            # The call comes first, because the others need their time to answer.
            self.store.set("called", "yes")
            self.store.set(f"dump/{self.rank}", msgspec.json.encode(dump).decode())
            # Counted last: whoever waits for all answers can then read them.
            self.store.add("answers", 1)

    def lose(self, rank: int) -> None:
        """Tell the other ranks that one has died."""
        if self.store is not None:
            self.store.set(LOST, str(rank))

    def lost(self) -> int | None:
        """Return the rank that another one has seen dead."""
        # check comes first, since get would wait for a key that nobody has set.
        if self.store is None or not self.store.check([LOST]):
            return None
        return int(self.store.get(LOST))

    def answers(self) -> int:
        """Return the number of ranks that have reported."""
        # Adding 0 reads the counter without waiting, even if nobody has reported.
        return self.size if self.store is None else self.store.add("answers", 0)

    def dumps(self) -> dict[int, Dump]:
        """Return the reports of the ranks."""
        if self.store is None:
            return {}

        keys = {rank: f"dump/{rank}" for rank in range(self.size)}
        # A rank that hangs hard has sent nothing, and get would wait for it.
        told = {rank: self.store.get(key) for rank, key in keys.items() if self.store.check([key])}
        return {rank: msgspec.json.decode(data, type=Dump) for rank, data in told.items()}

    def may_speak(self) -> bool:
        """Return whether this rank is the first that asks to write the verdict."""
        # The store counts for all ranks at once, so exactly one of them sees the 1.
        return self.store is None or self.store.add("speaker", 1) == 1

    def is_said(self) -> bool:
        """Return whether the verdict is on the console."""
        return self.store is not None and self.store.check(["said"])

    def said(self) -> None:
        """Take note that the verdict is on the console."""
        if self.store is not None:
            self.store.set("said", "yes")


def store_at(address: str) -> Store:
    """Return the ranks' part of torchrun's store at ``host:port/name``. Raises torch's errors if nobody answers."""
    endpoint, _, name = address.rpartition("/")
    host, _, port = endpoint.rpartition(":")
    # A client of its own: torch's waits in others for hours, and holds a lock then.
    client = TCPStore(
        host,
        int(port),
        is_master=False,
        wait_for_workers=False,
        timeout=datetime.timedelta(seconds=STORE_SECONDS),
    )
    return PrefixStore(f"hang/{name}", client)


def tell_lost(address: str, rank: int) -> None:
    """Tell the ranks that talk at ``address`` that one has died.

    A launcher calls it. On a node of one rank nobody else sees the death, and over NCCL the ranks of other nodes
    would wait for the dead one until they hang.
    """
    with contextlib.suppress(Exception):  # the store is gone, and each launcher notices that by itself
        store_at(address).set(LOST, str(rank))


class Investigation:
    """This rank's part. Make it on every rank at once, before anything can hang."""

    def __init__(
        self, world: World, run: Path, attempt: int, say: Callable[[str], None], log_file: TextIO
    ) -> None:
        self.world = world
        self.say = say
        self.log_file = log_file
        self.folder = hang_dir(run, attempt)
        self.file = hang_file(run, attempt)
        self.doing: Callable[[], str] = lambda: ""
        # A process id has a meaning only on its machine, so the machine goes with it.
        place = Place(world.rank, os.uname().nodename, os.getpid(), machine())
        # While all ranks still work: in a hang no rank can be asked where it runs.
        self.places: list[Place] = world.gathered(place)
        self.exchange = Exchange(world)
        self.notes = RankNotes(world.rank)
        self.notes.talks_at(self.exchange.address)
        self._seen_gone = 0
        flight_record.write_into(self.folder)

    @property
    def neighbours(self) -> list[Place]:
        """The other ranks that can be looked up from here."""
        here = self.places[self.world.rank]
        return [place for place in self.places if place.machine == here.machine and place.rank != here.rank]

    def lost(self) -> str:
        """Return a message about a dead rank, on this machine or on another; empty if all are alive.

        A rank that ends in good order waits for the others first. Its processes are watched for some
        time, for ranks that fail together end one after another.
        """
        gone = [place for place in self.neighbours if stacks.state_of(place.pid) in GONE]
        self._seen_gone = self._seen_gone + 1 if gone else 0
        if self._seen_gone >= TIMES_GONE:
            self.notes.failed(heals=True)
            self.exchange.lose(gone[0].rank)
            return f"{gone[0]} has died"

        rank = self.exchange.lost()
        if rank is None:
            return ""

        self.notes.failed(heals=True)
        return f"{self.places[rank]} has died"

    def __call__(self, idle_seconds: float) -> None:
        """Report the place of this rank to the others. Return when a rank has named the missing one."""
        # The time of the hang, before the waits below.
        now = time.time()
        dump = self.dump(idle_seconds)
        dumps = {self.world.rank: dump}
        try:
            # The message comes before the file, because storage may be what hangs.
            self.exchange.tell(dump)
            self.keep(dump)
            self.wait_for(lambda: self.exchange.answers() >= self.world.size, GATHER_SECONDS)
            dumps |= self.exchange.dumps()
            # All have the same answers, so one rank speaks, and the others take over if it cannot.
            if self.world.rank != min(dumps):
                self.wait_for(self.exchange.is_said, ORDER_SECONDS)

            speaks = self.exchange.may_speak()
        except Exception as error:  # the store is gone, and with it the launcher of the first node
            log.warning("the other ranks cannot be asked: %s", error)
            speaks = True

        if speaks:
            # The verdict is out before the mark: the others end as soon as they see the mark.
            self.speak(dumps, now)
            with contextlib.suppress(Exception):
                self.exchange.said()
        else:
            with contextlib.suppress(Exception):
                self.wait_for(self.exchange.is_said, VERDICT_SECONDS)

        # Last, because the launcher ends all ranks when one is killed.
        self.end_stopped()

    def dump(self, idle_seconds: float) -> Dump:
        """Return the place of this rank."""
        try:
            collectives = flight_record.collectives()
        except Exception as error:  # a record that this version of torch writes otherwise
            log.warning("torch's flight record cannot be read: %s", error)
            collectives = ()

        return Dump(
            place=self.places[self.world.rank],
            idle_seconds=idle_seconds,
            doing=self.doing(),
            stack=stacks.main_stack(),
            collectives=collectives,
            workers=stacks.data_workers(self.log_file),
            neighbours={place.rank: stacks.state_of(place.pid) for place in self.neighbours},
        )

    def keep(self, dump: Dump) -> None:
        """Write the report of this rank into the hang's folder."""
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            write_whole(self.folder / f"rank-{self.world.rank:05d}.json", msgspec.json.encode(dump))

    def wait_for(self, condition: Callable[[], bool], seconds: float) -> None:
        """Return when ``condition`` holds, or after ``seconds``."""
        deadline = time.monotonic() + seconds
        while not condition() and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)

    def speak(self, dumps: dict[int, Dump], declared: float) -> None:
        """Name the missing rank on the console and in the run directory."""
        longest = max(dump.idle_seconds for dump in dumps.values())
        lines = verdict.verdict(self.places, dumps)
        first = f"ERROR: training hangs: it made no step for {duration(longest)}, and is ended"
        text = "\n  ".join([first, *lines, f"the place of each rank is in {self.folder}"])
        # The console comes before the file, because the file system may be what hangs.
        self.say(text)
        log.error("%s", text)

        record = {"last_progress": declared - longest, "seconds": longest, "verdict": lines}
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            write_whole(self.file, msgspec.json.encode(record))

    def end_stopped(self) -> None:
        """Kill the ranks beside this one that a signal has stopped: they would outlast SIGTERM."""
        for place in self.neighbours:
            if stacks.state_of(place.pid) in verdict.STOPPED:
                with contextlib.suppress(OSError):
                    os.kill(place.pid, signal.SIGKILL)

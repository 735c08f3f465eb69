"""A sign of life in the run directory, so that no second attempt trains beside one that is alive.

A lock would not do: a shared file system may know none, or keep that of a node that died. What a dead process has left
behind does not change any more; so whoever comes next looks for that, and nobody has to clear anything away.
"""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import msgspec

from jobctl.jobs.core.durable import write_whole
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.core.exit_codes import EXIT_BUSY
from jobctl.jobs.core.layout import heartbeat_file
from jobctl.jobs.core.reading import decode_json

BEAT_SECONDS = 5.0
WATCH_SECONDS = 20.0
"""How long the sign of another node's process is watched. One that cannot write for so long is taken for dead, and
ends itself when it can again."""
POLL_SECONDS = 0.2
SIZE = 512
"""Bytes of the file: overwritten by one call, so that nobody reads half a sign."""


class Sign(msgspec.Struct, frozen=True):
    """The process that is at work."""

    nonce: str
    attempt: int
    host: str
    pid: int
    machine: str
    """Machine and PID namespace in which ``pid`` can be looked up. Empty if the system does not say."""
    started: str
    """Start of the process in ticks since boot. A later process may get the same number."""
    beat: int = 0


class Heartbeat:
    """Beats while its ``with`` block runs. Entering raises UserError if another attempt is alive.

    Where another one takes over all the same (this one could not write for long, and was taken for dead), the process
    ends at once, without saving: ``say`` gets its last words.
    """

    def __init__(self, run: Path, attempt: int, say: Callable[[str], None]) -> None:
        self.path = heartbeat_file(run)
        self.say = say
        pid = os.getpid()
        # The random number tells two attempts apart that have the same process id on different nodes.
        self.sign = Sign(uuid.uuid4().hex, attempt, os.uname().nodename, pid, machine(), started(pid))
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> Heartbeat:
        self._refuse_beside_another()
        try:
            write_whole(self.path, encoded(self.sign))
        except OSError as error:  # no reason not to train, though another one may now begin beside it
            self.say(f"WARNING: {self.path} cannot be written: {error.strerror}")
            return self

        # Two attempts may begin at the same moment. After a while both read the sign of the later one.
        time.sleep(POLL_SECONDS)
        now = decoded(self._read())
        if now and now.nonce != self.sign.nonce:  # begun at the same moment, and the later one
            raise busy(self.path.parent, now)

        self._thread.start()

        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._thread.is_alive():
            return

        self._ended.set()
        self._thread.join()
        now = decoded(self._read())
        # Another attempt may have taken the run over. Its sign must stay.
        if now and now.nonce == self.sign.nonce:
            self.path.unlink(missing_ok=True)

    def _refuse_beside_another(self) -> None:
        """Watch the sign of another attempt until it moves, its process ends, or it has stood still long enough."""
        first = self._read()
        other = decoded(first)
        if other is None or is_alive(other) is False:
            return

        self.say(f"attempt {other.attempt} on {other.host} did not record its end; is it alive?")
        deadline = time.monotonic() + WATCH_SECONDS

        while time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
            now = self._read()
            if now is None or is_alive(other) is False:  # it was just ending
                return

            # A newer beat, or the sign of another attempt: in both cases somebody is alive.
            if now != first and (moved := decoded(now)):
                raise busy(self.path.parent, moved)

        if is_alive(other):  # and stuck
            raise busy(self.path.parent, other)

    def _beat(self) -> None:
        # Only system calls: this process forks, and a lock that a thread holds then would stay locked in the child.
        while not self._ended.wait(BEAT_SECONDS):
            now = decoded(self._read())
            if now and now.nonce != self.sign.nonce:
                self.say(
                    f"ERROR: attempt {now.attempt} on {now.host} trains in this run now; this one ends without saving"
                )
                # At once and without saving: two writers would mix their checkpoints.
                os._exit(EXIT_BUSY)

            self.sign = msgspec.structs.replace(self.sign, beat=self.sign.beat + 1)

            try:
                # Opened and closed for each beat: a network file system shows writes at the close.
                descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o644)
                try:
                    os.pwrite(descriptor, encoded(self.sign), 0)
                finally:
                    os.close(descriptor)
            except OSError:  # a file system that is full or away for a moment
                continue

    def _read(self) -> bytes | None:
        """Return the file, or None. Open it again each time: a lookup may come from a cache."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY)
        except FileNotFoundError:
            return None
        except OSError:
            return b""

        try:
            return os.pread(descriptor, SIZE, 0)
        except OSError:
            return b""
        finally:
            os.close(descriptor)


def encoded(sign: Sign) -> bytes:
    return msgspec.json.encode(sign)[: SIZE - 1].ljust(SIZE - 1) + b"\n"


def decoded(data: bytes | None) -> Sign | None:
    """Return None for an invalid sign. Such a sign does not prevent training."""
    try:
        return decode_json(data, Sign) if data else None
    except msgspec.MsgspecError:
        return None


def busy(run: Path, sign: Sign) -> UserError:
    who = f"attempt {sign.attempt}, process {sign.pid} on {sign.host}"
    return UserError(
        f"{run} is in use: {who}, trains there and is alive",
        hint=f"wait for it or stop it (touch {run}/STOP), and start again; or choose another --run_dir",
        code=EXIT_BUSY,
    )


def is_alive(sign: Sign) -> bool | None:
    """Return whether its process is alive; None if it is on another machine or in another container."""
    # Elsewhere the same process id belongs to another process.
    if not sign.machine or sign.machine != machine():
        return None
    # A process id is used again. Together with the start it names one process.
    return bool(sign.started) and started(sign.pid) == sign.started


def machine() -> str:
    """Return a name of this boot and this PID namespace; empty if the system does not say."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def started(pid: int) -> str:
    """Return the start of a process in clock ticks since boot (proc(5), field 22 of stat); "" if it has ended."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""

    # The program's name stands in brackets before these fields, and may contain spaces and brackets itself.
    fields = text.rpartition(")")[2].split()
    # Field 22 is number 19 here: two fields are cut off, and the count begins at 0.
    return "" if fields[0] in "ZX" else fields[19]

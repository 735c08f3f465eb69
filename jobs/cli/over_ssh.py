"""``jobctl over-ssh``: the side of the login node. It runs the requests of a jobctl on another machine."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

import click

from jobctl import __version__
from jobctl.jobs.cli import invoke
from jobctl.jobs.cli.finding import Place, find_run
from jobctl.jobs.cli.output import warn
from jobctl.jobs.core.errors import run_command
from jobctl.jobs.core.reading import carry
from jobctl.jobs.login.answer import BEGIN, end_mark
from jobctl.jobs.login.files import send
from jobctl.jobs.login.request import Copy, decode
from jobctl.jobs.runs.revision import git_revision

STANDARD_INPUT = 0


@click.command("over-ssh", hidden=True)
@click.argument("request", required=False)
def over_ssh_command(request: str | None) -> None:
    """Do what a jobctl on another machine asks for, in REQUEST or in one line of standard input."""
    if request is not None:
        sys.exit(_exit_code(lambda: _answer(request.encode(), has_terminal=True)))

    out = sys.stdout.buffer
    out.write(BEGIN)
    # Flush at once: the other side sends its request only after this mark.
    out.flush()
    line = sys.stdin.buffer.readline()
    # The input has no answers after the request. A command that asks a question would wait without end.
    sys.stdin = open(os.devnull)  # noqa: SIM115
    # A fault of jobctl has no exit code of its own. The mark below is still written.
    code = 1
    try:
        code = _exit_code(lambda: _answer(line, has_terminal=False))
    finally:
        # The other side may be gone.
        with contextlib.suppress(OSError):
            # Text of `print` waits in a separate buffer, and the mark must come after it.
            sys.stdout.flush()
            out.write(end_mark(code))
            out.flush()

    sys.exit(code)


def _exit_code(main: Callable[[], int]) -> int:
    """Return the exit code with which ``main`` would end this process."""
    try:
        run_command(main)
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else 1


def _answer(line: bytes, *, has_terminal: bool) -> int:
    request = decode(line, __version__)
    if request.revision:
        warn(other_revision(request.revision, git_revision()))

    carry(request.texts)
    if request.acts:
        sys.stdout = unheard(sys.stdout)
        sys.stderr = unheard(sys.stderr)
    elif not has_terminal:
        # With a terminal the system sends the hang-up, and the input belongs to the command.
        end_with_the_connection()

    return _send(request.copy) if request.copy else invoke(list(request.words), for_another=True)


def other_revision(asking: str, here: str | None) -> list[str]:
    """Return a note if two checkouts of one version differ.

    An installed package has no revision, so it gets no note.
    """
    if here in (None, asking):
        return []

    return [
        f"jobctl is {__version__} here and on the login node, but the code differs: revision {asking} here, "
        f"{here} on the login node; jobctl renders the jobs with the code of the login node"
    ]


def _send(copy: Copy) -> int:
    run = find_run(copy.run, Place(target=copy.target, site=copy.site))
    send(run.path, copy.here, sys.stdout.buffer)

    return 0


def unheard(stream: Any) -> io.TextIOWrapper:
    """Return ``stream`` in a form that accepts writes even without a reader.

    A broken connection must not end a submission between Slurm's answer and its record.
    """
    raw = _Unheard(stream.fileno())
    return io.TextIOWrapper(
        io.BufferedWriter(raw), encoding=stream.encoding, errors="replace", line_buffering=True
    )


class _Unheard(io.RawIOBase):
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def write(self, data: Any) -> int:
        try:
            return os.write(self._descriptor, data)
        except OSError:
            # Lost data count as written, because the buffer would try again without end.
            return len(data)


def end_with_the_connection() -> None:
    """End this process when its standard input ends: then nobody waits for the answer.

    Without it, after the laptop was closed, a `wait` would stay on the login node as long as the job.
    """

    def listen() -> None:
        with contextlib.suppress(OSError):
            while os.read(STANDARD_INPUT, 4096):
                pass

        # A thread cannot end the main thread, which may sleep. A signal ends it in any case.
        os.kill(os.getpid(), signal.SIGHUP)

    # A parent such as nohup may have it ignored, and then this process would never end.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    threading.Thread(target=listen, daemon=True).start()

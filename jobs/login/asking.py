"""Ask a jobctl on another machine, and tell apart what it did not hear from what it may have done."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from jobctl.jobs.core.errors import UserError
from jobctl.jobs.login.answer import end_of, has_begun, read_output
from jobctl.jobs.login.failures import in_brackets
from jobctl.jobs.login.files import Came, OtherWords, receive
from jobctl.jobs.login.request import Request, encode
from jobctl.jobs.login.ssh import NOT_SSH, Session

VERB = "over-ssh"
"""The command of jobctl that answers."""
NOT_EXECUTABLE = 126
NOT_FOUND = 127


class Broken(UserError):
    """The connection broke after the other side had begun: what it has done is not known."""


def ask(host: str, program: str, request: Request, write: Callable[[bytes], object]) -> int:
    """Hand what jobctl on ``host`` prints to ``write``, and return its exit code.

    Raises UserError where it has not heard the request, and Broken where nothing is known any more.
    """
    with _answering(host, program, request) as (session, stream):
        code = read_output(stream, write)
        if code is None:
            raise _broken(session, host)

        return code


def ask_at_terminal(host: str, program: str, request: Request) -> int:
    """Let jobctl on ``host`` have this terminal, and return its exit code.

    Raises UserError where ssh fails.
    """
    word = encode(request).decode()
    with contextlib.closing(Session(host, [program, VERB, word], terminal=True)) as session:
        # Without a limit: `close` would end the view after some seconds.
        session.process.wait()
        code = session.close()
        if code in (NOT_SSH, NOT_FOUND, NOT_EXECUTABLE):
            raise _no_answer(session, host, program, request.version, code)

        return code


def ask_for_files(
    host: str, program: str, request: Request, into: Path, tell: Callable[[str], None]
) -> Came | int:
    """Copy files from ``host`` to ``into``. Return what came.

    Where the other side refuses, return its exit code: it has said why. Raises UserError where it has not heard
    the request, and Broken where the list of files did not come.
    """
    with _answering(host, program, request) as (session, stream):
        try:
            return receive(stream, into, tell)
        except OtherWords as words:
            code = end_of(words.mark)
            if code is None:
                raise _broken(session, host) from None

            return code
        except ConnectionError:
            raise _broken(session, host) from None


@contextlib.contextmanager
def _answering(host: str, program: str, request: Request) -> Iterator[tuple[Session, BinaryIO]]:
    """Yield the session and its output after the first mark.

    Whatever happens in the block, the session ends.
    """
    word = encode(request)
    session = Session(host, [program, VERB])
    stdin = session.process.stdin
    stdout = session.process.stdout
    assert stdin is not None
    assert stdout is not None
    try:
        # An IO[bytes] of a pipe is a BufferedReader.
        if not has_begun(stdout):  # type: ignore[arg-type]
            raise _no_answer(session, host, program, request.version, session.close())

        # Sent only now: where no answer has begun, nothing has been done. A pipe that breaks is seen below.
        with contextlib.suppress(BrokenPipeError):
            stdin.write(word + b"\n")
            # It stays open: its end tells the other side that nobody waits for it any more.
            stdin.flush()

        yield session, stdout  # type: ignore[misc]
    except BaseException:
        # On Ctrl-C and on any error nobody reads the output any more, so ssh need not go on.
        session.process.terminate()
        raise
    finally:
        session.close()


def _broken(session: Session, host: str) -> Broken:
    session.close()
    return Broken(f"the connection to {host} broke{in_brackets(session.said())}", code=1)


def _no_answer(session: Session, host: str, program: str, version: str, code: int) -> UserError:
    """Return why there was no answer. Nothing has been done then."""
    if code == NOT_SSH:
        return session.failure()

    if code in (NOT_FOUND, NOT_EXECUTABLE):
        return UserError(
            f"{host} has no command {program}",
            hint="install jobctl there, or name its path: login.jobctl in the site file (site new: --login-jobctl); "
            "PATH may be shorter than in a login by hand",
            code=1,
        )

    return UserError(
        f"jobctl on {host} did not take the request (exit code {code})",
        hint=f"it must be version {version}, as here: ssh {host} {program} --version",
        code=1,
    )

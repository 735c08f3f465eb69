"""Ask a jobctl on another machine. Separate requests that did not arrive from requests that may have run."""

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
WRONG_USAGE = 2
"""The exit code of a jobctl that does not know the command."""
NOT_EXECUTABLE = 126
NOT_FOUND = 127


class Broken(UserError):
    """The connection broke after the other side had begun. It is unknown what it has done."""


def ask(host: str, program: str, request: Request, write: Callable[[bytes], object]) -> int:
    """Give the output of jobctl on ``host`` to ``write``, and return its exit code.

    Raises UserError if the request did not arrive, and Broken if the connection broke after that.
    """
    with _answering(host, program, request) as (session, stream):
        code = read_output(stream, write)
        if code is None:
            raise _broken(session, host)

        return code


def ask_at_terminal(host: str, program: str, request: Request) -> int:
    """Let jobctl on ``host`` use this terminal, and return its exit code.

    Raises UserError if ssh fails.
    """
    word = encode(request).decode()
    with contextlib.closing(Session(host, [program, VERB, word], terminal=True)) as session:
        # Wait without a limit: `close` would end the view after some seconds.
        session.process.wait()
        code = session.close()
        if code in (NOT_SSH, NOT_FOUND, NOT_EXECUTABLE):
            raise _no_answer(session, host, program, request.version, code)

        return code


def ask_for_files(
    host: str, program: str, request: Request, into: Path, tell: Callable[[str], None]
) -> Came | int:
    """Copy files from ``host`` to ``into``. Return the result of the copy.

    If the other side refuses, return its exit code: it has printed the reason. Raises UserError if the
    request did not arrive, and Broken if the list of files did not come.
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

        # Send it only now: if no answer has begun, nothing has been done. The code below sees a broken pipe.
        with contextlib.suppress(BrokenPipeError):
            stdin.write(word + b"\n")
            # Keep it open: its end tells the other side that nobody waits for the answer any more.
            stdin.flush()

        yield session, stdout  # type: ignore[misc]
    except BaseException:
        # After Ctrl-C or any error nobody reads the output, so ssh need not continue.
        session.process.terminate()
        raise
    finally:
        session.close()


def _broken(session: Session, host: str) -> Broken:
    session.close()
    return Broken(f"the connection to {host} broke{in_brackets(session.said())}", code=1)


def _no_answer(session: Session, host: str, program: str, version: str, code: int) -> UserError:
    """Return the reason why no answer came. In this case nothing has been done."""
    if code == NOT_SSH:
        return session.failure()

    if code in (NOT_FOUND, NOT_EXECUTABLE):
        return UserError(
            f"{host} has no command {program}",
            hint="install jobctl there, or name its path: login.jobctl in the site file (site new: --login-jobctl); "
            "PATH may be shorter than in a login by hand",
            code=1,
        )

    if code == WRONG_USAGE:
        return UserError(
            f"jobctl on {host} is older than yours, and does not answer over ssh",
            hint=f"install the same version on both: here it is {version}",
            code=1,
        )

    return UserError(
        f"jobctl on {host} did not take the request (exit code {code})",
        hint=f"it must be version {version}, as here: ssh {host} {program} --version",
        code=1,
    )

"""Call ssh, in this module only: without a prompt, over one connection, with all data quoted."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from jobctl.jobs.core.errors import UserError
from jobctl.jobs.login.failures import failure

CONNECT_SECONDS = 15
ALIVE_SECONDS = 15
ALIVE_COUNT = 4
"""A connection on which this many questions in a row get no answer is dead.

A laptop was asleep, or a network changed.
"""
PERSIST_SECONDS = 60
"""How long the connection stays open for the next command."""
SOCKET_FOLDER_BYTES = 45
"""The longest folder of its socket.

A socket's path has 104 bytes on macOS, ssh's %C 40, and what ssh adds 17.
"""
END_SECONDS = 10.0
"""How long ssh may take to end when all has come. A process of the other side may keep its channel open."""
LOG_BYTES = 1 << 16
NOT_SSH = 255
"""The exit code of ssh itself, where the command has none."""

_DESTINATION = re.compile(r"[A-Za-z0-9._~%+\[\]:/@-]+")


def check_destination(host: str) -> str:
    """Return the name of a host as ssh spells it.

    Raises UserError for one that ssh would read as an option.
    """
    last = host.rpartition("@")[2]
    if host.startswith("-") or last.startswith("-") or not _DESTINATION.fullmatch(host):
        raise UserError(
            f"login.host is {host!r}, which is no host", hint="user@host, or a name of ~/.ssh/config"
        )

    return host


def quoted(words: Sequence[str]) -> str:
    """Return the words as one line for the shell of the other machine.

    A ``~/`` before the first is its home there.
    """
    program, *rest = words
    home = "~/" if program.startswith("~/") else ""
    return " ".join([home + shlex.quote(program.removeprefix("~/")), *(shlex.quote(word) for word in rest)])


class Session:
    """A command on another machine, at work. Its errors go to this process's standard error as they come."""

    def __init__(self, host: str, words: Sequence[str], *, terminal: bool = False) -> None:
        """Start it; with a ``terminal`` it has this process's own input and output, and otherwise pipes."""
        self._host = check_destination(host)
        self._said = ""
        # ssh writes its own words there by name (-E), apart from what the command prints.
        self._log = tempfile.NamedTemporaryFile(prefix="jobctl-ssh-")  # noqa: SIM115
        pipe = None if terminal else subprocess.PIPE
        command = [program(), *options(self._host), "-E", self._log.name, "-tt" if terminal else "-T"]
        self.process = subprocess.Popen(
            [*command, "--", self._host, quoted(words)], stdin=pipe, stdout=pipe, env=environment()
        )

    def close(self) -> int:
        """Return the exit code of the command, or that of ssh where it has none.

        What does not end is ended.
        """
        # The other side takes the end of its input as a sign that nobody waits any more.
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

        try:
            code = self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()

        if not self._log.closed:
            self._log.seek(0)
            self._said = self._log.read(LOG_BYTES).decode("utf-8", "replace")
            self._log.close()

        return code

    def said(self) -> str:
        """Return what ssh itself has said, once it has ended.

        A connection that many share may break in silence.
        """
        return self._said

    def failure(self) -> UserError:
        """Return why ssh has not reached the host, in words, once it has ended."""
        return failure(self._said, self._host, login_by_hand(self._host))


def program() -> str:
    """Return the path of ssh. Raises UserError where it is not installed."""
    path = shutil.which("ssh")
    if path is None:
        raise UserError("ssh is not on the PATH", hint="install it: apt-get install openssh-client")

    return path


def environment() -> dict[str, str]:
    """Return this process's environment without its locale.

    ssh would send the locale, and the other machine has its own.
    """
    return {
        name: value for name, value in os.environ.items() if name != "LANG" and not name.startswith("LC_")
    }


def options(host: str) -> list[str]:
    """Return what every call says.

    Keys, jumps and which hosts are known stay with the user's configuration.
    """
    settings = {
        # Nobody answers a prompt in a script, and an answer typed into the dark is a password in a log.
        "BatchMode": "yes",
        "ConnectTimeout": CONNECT_SECONDS,
        "ServerAliveInterval": ALIVE_SECONDS,
        "ServerAliveCountMax": ALIVE_COUNT,
        # A port or a command that the user's configuration has for logins by hand would end this one.
        "ClearAllForwardings": "yes",
        "RemoteCommand": "none",
    }
    words = [f"-o{name}={value}" for name, value in settings.items()]

    return [*words, *sharing(host)]


def sharing(host: str) -> list[str]:
    """Return the options by which commands share one connection.

    None where the user's configuration shares already, as for a host that asks for a code at each login. None
    also where no private folder can hold the socket.
    """
    folder = None if _shares_already(host) else socket_folder()
    if folder is None:
        return []

    return ["-oControlMaster=auto", f"-oControlPath={folder}/%C", f"-oControlPersist={PERSIST_SECONDS}"]


def login_by_hand(host: str) -> str:
    """Return the command that opens a connection by hand, which later commands use."""
    folder = None if _shares_already(host) else socket_folder()
    path = f" -o ControlPath={folder}/%C" if folder else ""
    return f"ssh -fN -M{path} -o ControlPersist=8h {host}"


def socket_folder() -> Path | None:
    """Return this user's private folder for sockets, made where it is missing.

    Return None where there can be none.
    """
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    folder = Path(runtime) / "jobctl" if runtime else Path.home() / ".cache" / "jobctl-ssh"
    if len(os.fsencode(folder)) > SOCKET_FOLDER_BYTES or "%" in str(folder):
        return None

    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        facts = folder.lstat()
    except OSError:
        return None

    # Whoever can write the folder can put a socket there, and would be the login node for us.
    private = stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.geteuid() and not facts.st_mode & 0o077
    return folder if private else None


def _shares_already(host: str) -> bool:
    """Whether the user's configuration names a socket for this host."""
    try:
        answer = subprocess.run(
            [program(), "-G", "--", host],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=10,
            check=False,
        ).stdout
    except subprocess.TimeoutExpired:
        return False

    # ssh itself reads the configuration, with its includes and patterns.
    paths = [line.split(" ", 1)[1] for line in answer.splitlines() if line.startswith("controlpath ")]
    return any(path != "none" for path in paths)

"""Call ssh. Only this module does so: without a prompt, over one connection, with all data quoted."""

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
"""If this many questions in a row get no answer, the connection is dead.

A laptop was asleep, or a network changed.
"""
PERSIST_SECONDS = 60
"""Seconds for which the connection stays open for the next command."""
SOCKET_FOLDER_BYTES = 45
"""The longest folder of its socket, in bytes.

A socket's path has 104 bytes on macOS. ssh's %C takes 40 of them, and ssh adds 17.
"""
END_SECONDS = 10.0
"""Seconds for ssh to end when everything has come. A process there may keep its channel open."""
LOG_BYTES = 1 << 16
NOT_SSH = 255
"""The exit code of ssh itself, if the command has none."""

_DESTINATION = re.compile(r"[A-Za-z0-9._~%+\[\]:/@-]+")


def check_destination(host: str) -> str:
    """Return the name of a host as ssh spells it.

    Raises UserError for a name that ssh would read as an option.
    """
    last = host.rpartition("@")[2]
    if host.startswith("-") or last.startswith("-") or not _DESTINATION.fullmatch(host):
        raise UserError(
            f"login.host is {host!r}, which is no host", hint="user@host, or a name of ~/.ssh/config"
        )

    return host


def quoted(words: Sequence[str]) -> str:
    """Return the words as one line for the shell of the other machine.

    A ``~/`` before the first word means the home folder there.
    """
    program, *rest = words
    home = "~/" if program.startswith("~/") else ""
    return " ".join([home + shlex.quote(program.removeprefix("~/")), *(shlex.quote(word) for word in rest)])


class Session:
    """A running command on another machine. Its errors go at once to this process's standard error."""

    def __init__(self, host: str, words: Sequence[str], *, terminal: bool = False) -> None:
        """Start it. With a ``terminal`` it uses this process's input and output, otherwise pipes."""
        self._host = check_destination(host)
        self._said = ""
        # ssh writes its own messages to this file (-E), apart from the output of the command.
        self._log = tempfile.NamedTemporaryFile(prefix="jobctl-ssh-")  # noqa: SIM115
        pipe = None if terminal else subprocess.PIPE
        command = [program(), *options(self._host), "-E", self._log.name, "-tt" if terminal else "-T"]
        self.process = subprocess.Popen(
            [*command, "--", self._host, quoted(words)], stdin=pipe, stdout=pipe, env=environment()
        )

    def close(self) -> int:
        """Return the exit code of the command, or that of ssh if the command has none.

        Kill a command that does not end in time.
        """
        # For the other side, the end of its input is a sign that nobody waits any more.
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
        """Return the messages of ssh itself, after it has ended.

        A connection that many commands share may break without a message.
        """
        return self._said

    def failure(self) -> UserError:
        """Return the reason why ssh did not reach the host, after ssh has ended."""
        return failure(self._said, self._host, login_by_hand(self._host))


def program() -> str:
    """Return the path of ssh. Raises UserError if it is not installed."""
    path = shutil.which("ssh")
    if path is None:
        raise UserError("ssh is not on the PATH", hint="install it: apt-get install openssh-client")

    return path


def environment() -> dict[str, str]:
    """Return this process's environment without its locale.

    ssh would send the locale, and the other machine has a different one.
    """
    return {
        name: value for name, value in os.environ.items() if name != "LANG" and not name.startswith("LC_")
    }


def options(host: str) -> list[str]:
    """Return the options of every call.

    Keys, jumps and known hosts come from the user's configuration.
    """
    settings = {
        # Nobody answers a prompt in a script. An answer typed without a prompt is a password in a log.
        "BatchMode": "yes",
        "ConnectTimeout": CONNECT_SECONDS,
        "ServerAliveInterval": ALIVE_SECONDS,
        "ServerAliveCountMax": ALIVE_COUNT,
        # The user's configuration may have a port or a command for logins by hand. They would end this one.
        "ClearAllForwardings": "yes",
        "RemoteCommand": "none",
    }
    words = [f"-o{name}={value}" for name, value in settings.items()]

    return [*words, *sharing(host)]


def sharing(host: str) -> list[str]:
    """Return the options by which commands share one connection.

    Return none if the user's configuration already shares connections, as for a host that asks for a code at
    each login. Return none also if no private folder can hold the socket.
    """
    folder = None if _shares_already(host) else socket_folder()
    if folder is None:
        return []

    return ["-oControlMaster=auto", f"-oControlPath={folder}/%C", f"-oControlPersist={PERSIST_SECONDS}"]


def login_by_hand(host: str) -> str:
    """Return the command that opens a connection by hand. Later commands use this connection."""
    folder = None if _shares_already(host) else socket_folder()
    path = f" -o ControlPath={folder}/%C" if folder else ""
    return f"ssh -fN -M{path} -o ControlPersist=8h {host}"


def socket_folder() -> Path | None:
    """Return this user's private folder for sockets. Make it if it is missing.

    Return None if it cannot exist.
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

    # A user who can write to the folder can put a socket there, and would be the login node for us.
    private = stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.geteuid() and not facts.st_mode & 0o077
    return folder if private else None


def _shares_already(host: str) -> bool:
    """Return whether the user's configuration names a socket for this host."""
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

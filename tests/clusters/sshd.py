"""A real ssh server on this machine's loopback, and a laptop that reaches it: keys, known hosts and configuration."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.absent import absent
from tests.clusters import BUSY
from tests.clusters.machine import children_of

PACKAGES = "openssh-server openssh-client"
SSHD = "/usr/sbin/sshd"
HOST = "login"
"""The name of the server in the laptop's configuration."""
START_SECONDS = 20.0


def missing() -> str:
    """Why a server cannot start here; empty when it can."""
    if os.path.exists(SSHD) and shutil.which("ssh") and shutil.which("ssh-keygen"):
        return ""

    return f"no ssh server: apt-get install --no-install-recommends {PACKAGES}"


def opened_to_all(kept: Path) -> list[str]:
    """Return shell commands by which other users can read this Python and its modules, wherever they are.

    A folder that only its owner may enter, such as /root, is replaced by an empty one with just these parts.
    ``kept`` is a place for the folders that are replaced.
    """
    modules = [Path(name) for name in (sys.base_prefix, sys.prefix, *sys.path) if os.path.isdir(name)]
    closed: dict[Path, list[Path]] = {}
    for folder in dict.fromkeys(modules):
        above = [*reversed(folder.parents), folder]
        first = next((place for place in above if not place.stat().st_mode & 0o001), None)
        if first is not None:
            closed.setdefault(first, []).append(folder)

    lines = []
    for number, (place, parts) in enumerate(closed.items()):
        whole = kept / str(number)
        lines += [
            f"mkdir -p {whole}",
            f"mount --rbind {place} {whole}",
            f"mount -t tmpfs -o mode=755 none {place}",
        ]
        for part in parts:
            lines += [f"mkdir -p {part}", f"mount --rbind {whole / part.relative_to(place)} {part}"]

    return lines


class LoginNode:
    """A server with a host key of its own, which lets this user in by one key."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._server: subprocess.Popen[bytes] | None = None
        self._view: list[str] = []
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]

        for name in ("host", "user", "stranger"):
            make_key(folder / name)

        shutil.copy(folder / "user.pub", folder / "authorized")

    def start(self, *settings: str) -> LoginNode:
        """Start the server, with further ``settings``, and wait until it listens."""
        with contextlib.suppress(OSError):  # only root's server separates its privileges, in this folder
            os.makedirs("/run/sshd", mode=0o755, exist_ok=True)

        config = self.folder / "sshd_config"
        lines = [
            f"Port {self.port}",
            "ListenAddress 127.0.0.1",
            f"HostKey {self.folder}/host",
            f"AuthorizedKeysFile {self.folder}/authorized",
            f"PidFile {self.folder}/pid",
            "StrictModes no",
            "UsePAM no",
            "PermitRootLogin yes",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            *settings,
        ]
        config.write_text("\n".join(lines) + "\n")
        self._server = subprocess.Popen(
            [*self._in_its_view(), SSHD, "-D", "-e", "-f", config], stderr=(self.folder / "log").open("ab")
        )
        deadline = time.monotonic() + BUSY * START_SECONDS
        while not self._listens():
            log = (self.folder / "log").read_text()
            assert self._server.poll() is None, log
            assert time.monotonic() < deadline, log
            time.sleep(0.05)

        return self

    def let_in(self, users: Sequence[str]) -> None:
        """Let other users of this machine in too, by the same key, even if their accounts have no shell.

        Call it before ``start``. The server must be root's. All is in the server's own view of the files.
        """
        accounts = Path("/etc/passwd").read_text().splitlines()
        shells = [
            f"{line.rpartition(':')[0]}:/bin/sh" if line.partition(":")[0] in users else line
            for line in accounts
        ]
        logins = self.folder / "passwd"
        logins.write_text("\n".join(shells) + "\n")
        # The server reads the list of keys as those users.
        self.folder.chmod(0o711)
        self._view = [f"mount --bind {logins} /etc/passwd", *opened_to_all(self.folder / "kept")]

    def _in_its_view(self) -> list[str]:
        """Return the words before the server's command that change its view of the files."""
        if not self._view:
            return []

        return ["unshare", "--mount", "sh", "-ec", "\n".join([*self._view, 'exec "$@"']), "sh"]

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def cut(self) -> None:
        """Break every connection, as a network does that goes away, and accept new ones."""
        assert self._server is not None
        for session in children_of(self._server.pid):
            with contextlib.suppress(ProcessLookupError):
                for below in children_of(session):  # the user's half of a session, where root's is another
                    if b"sshd" in Path(f"/proc/{below}/comm").read_bytes():
                        os.kill(below, signal.SIGKILL)
                os.kill(session, signal.SIGKILL)

    def stop(self) -> None:
        """End the server and all its connections."""
        if self._server is not None:
            self.cut()
            self._server.kill()
            self._server.wait()
            self._server = None


class Laptop:
    """A machine without Slurm: ``ssh`` is all that it has on its PATH."""

    def __init__(self, folder: Path, node: LoginNode, user: str = "") -> None:
        """``user`` is the name at the login node. Empty: the name here."""
        self.folder = folder
        self.node = node
        self.user = user or getpass.getuser()
        (folder / "bin").mkdir(parents=True)
        (folder / "run").mkdir(mode=0o700)
        (folder / "home").mkdir()
        (folder / "work").mkdir()
        host_key = (node.folder / "host.pub").read_text().split()[:2]
        self.known_hosts.write_text(f"[127.0.0.1]:{node.port} {' '.join(host_key)}\n")
        self.configure()
        # ssh takes the user's files from the account and not from $HOME.
        program = self.folder / "bin" / "ssh"
        program.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {folder}/ssh_config "$@"\n')
        program.chmod(0o755)

    @property
    def known_hosts(self) -> Path:
        return self.folder / "known_hosts"

    @property
    def work(self) -> Path:
        """The folder in which commands are typed."""
        return self.folder / "work"

    def configure(self, key: str = "user", port: int | None = None, *more: str) -> None:
        """Write the configuration of ssh, with the key that it offers."""
        settings = [
            f"Host {HOST}",
            "HostName 127.0.0.1",
            f"Port {port or self.node.port}",
            f"User {self.user}",
            f"IdentityFile {self.node.folder}/{key}",
            "IdentitiesOnly yes",
            f"UserKnownHostsFile {self.known_hosts}",
            "GlobalKnownHostsFile /dev/null",
            *more,
        ]
        (self.folder / "ssh_config").write_text("\n  ".join(settings) + "\n")

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": str(self.folder / "bin"),
            "HOME": str(self.folder / "home"),
            "XDG_RUNTIME_DIR": str(self.folder / "run"),
            "PYTHONPATH": os.pathsep.join(sys.path),
            "LC_ALL": "tlh_QO.UTF-8",
        }

    def start(self, *words: str, more: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Start jobctl with these words."""
        command = [sys.executable, "-c", "from jobctl.jobs.cli import main; main()", *words]
        return subprocess.Popen(
            command,
            cwd=self.work,
            env=self.environment | dict(more or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="surrogateescape",
        )

    def says(self, *words: str, more: Mapping[str, str] | None = None) -> tuple[int, str, str]:
        """Run jobctl; its exit code, standard output and standard error."""
        started = self.start(*words, more=more)
        out, err = started.communicate(timeout=BUSY * 120)
        assert "Traceback" not in err, err
        return started.returncode, out, err


def make_key(path: Path) -> None:
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(path)]
    subprocess.run(command, check=True, capture_output=True)


def write_jobctl(folder: Path, environment: Mapping[str, str], version: str = "") -> Path:
    """Write the login node's jobctl: that of this checkout in an ``environment``, or of another ``version``."""
    lines = [f"os.environ[{name!r}] = {value!r}" for name, value in environment.items()]
    change = [f"jobctl.__version__ = {version!r}"] if version else []
    text = "\n".join(
        [
            f"#!{sys.executable}",
            "import os, sys",
            f"sys.path[:0] = {sys.path!r}",
            *lines,
            "import jobctl",
            *change,
            "from jobctl.jobs.cli import main",
            "main()",
        ]
    )
    path = folder / "jobctl"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")
    path.chmod(0o755)
    return path


@contextlib.contextmanager
def login_node(*others: str) -> Iterator[tuple[LoginNode, Laptop]]:
    """Yield a server that listens and a laptop, which go with the block; skip the test where there can be none.

    ``others`` are further users whom the server lets in.
    """
    if reason := missing():
        absent("JOBCTL_REQUIRE_SLURM", reason)

    # Not pytest's folder: a socket's path may have 108 bytes.
    with tempfile.TemporaryDirectory(prefix="jl-", dir="/tmp") as name:
        node = LoginNode(Path(name))
        if others:
            node.let_in(others)

        try:
            node.start()
            yield node, Laptop(Path(name) / "l", node)
        finally:
            node.stop()

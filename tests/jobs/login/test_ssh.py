"""How ssh is called, against a real server: words arrive as they are, and one connection serves many commands."""

from __future__ import annotations

import shlex
import socket
import subprocess
from pathlib import Path

import pytest

from jobctl.jobs.core.errors import UserError
from jobctl.jobs.login import ssh
from jobctl.jobs.login.ssh import Session, check_destination, login_by_hand, options, quoted, socket_folder
from tests.clusters.sshd import HOST, Laptop

ODD = ["a b", "it's", '"q"', "$(touch evil) `id`", "!x", "é\n", "", "--", "-n", "~", "\\", "*"]


def said(words: list[str]) -> tuple[int, str, Session]:
    session = Session(HOST, words)
    assert session.process.stdin is not None
    assert session.process.stdout is not None
    session.process.stdin.close()
    text = session.process.stdout.read().decode()
    return session.close(), text, session


def test_words_arrive_as_they_are(laptop: Laptop) -> None:
    assert said(["printf", "%s|", *ODD])[:2] == (0, "".join(f"{word}|" for word in ODD))
    assert not (Path.home() / "evil").exists()


def test_the_exit_code_is_that_of_the_command(laptop: Laptop) -> None:
    code, _, session = said(["sh", "-c", "exit 7"])
    assert (code, session.said()) == (7, "")


def test_one_connection_serves_many_commands(laptop: Laptop) -> None:
    ports = {said(["sh", "-c", "echo $SSH_CLIENT"])[1] for _ in range(3)}
    assert len(ports) == 1
    folder = socket_folder()
    assert folder is not None
    assert folder.stat().st_mode & 0o777 == 0o700


def test_the_locale_of_the_laptop_stays_there(laptop: Laptop, monkeypatch: pytest.MonkeyPatch) -> None:
    laptop.node.stop()
    laptop.node.start("AcceptEnv *")
    laptop.configure("user", None, "SendEnv LANG LC_*")
    monkeypatch.setenv("LANG", "tlh")
    assert "tlh" not in said(["env"])[1]


def test_a_port_and_a_command_for_logins_by_hand_do_not_end_it(laptop: Laptop) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        forward = f"LocalForward {taken.getsockname()[1]} 127.0.0.1:22"
        laptop.configure("user", None, forward, "ExitOnForwardFailure yes", "RemoteCommand false")
        assert said(["echo", "there"])[:2] == (0, "there\n")


def test_a_connection_of_the_users_own_is_used(laptop: Laptop) -> None:
    """As for a host that asks for a code: the user has logged in by hand, and no key is accepted any more."""
    path = laptop.folder / "run" / "mine"
    laptop.configure("user", None, f"ControlPath {path}", "ControlMaster auto")
    assert not [word for word in options(HOST) if "Control" in word]
    master = subprocess.Popen([ssh.program(), "-N", "-M", HOST])
    try:
        while not path.exists():
            assert master.poll() is None
        laptop.configure("stranger", None, f"ControlPath {path}")
        assert said(["echo", "there"])[:2] == (0, "there\n")
    finally:
        master.kill()
        master.wait()


def test_the_command_that_logs_in_by_hand_opens_the_connection(laptop: Laptop) -> None:
    command = login_by_hand(HOST)
    subprocess.run(shlex.split(command), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    laptop.configure("stranger")
    assert said(["echo", "there"])[:2] == (0, "there\n")


def failed(laptop: Laptop) -> UserError:
    code, _, session = said(["true"])
    assert code == ssh.NOT_SSH
    return session.failure()


def test_failures_are_said_in_words(laptop: Laptop, monkeypatch: pytest.MonkeyPatch) -> None:
    laptop.configure("stranger")
    assert "login accepts none of your keys" in failed(laptop).message

    known = laptop.known_hosts.read_text()
    laptop.known_hosts.write_text("")
    assert "the host key of login is not known yet" in failed(laptop).message
    other = (laptop.node.folder / "stranger.pub").read_text().split()[1]
    laptop.known_hosts.write_text(f"{known.split()[0]} ssh-ed25519 {other}\n")
    assert "another one than before" in failed(laptop).message

    laptop.configure("user", None, "HostName no.such.host.invalid")
    (laptop.folder / "ssh_config").write_text(f"Host {HOST}\n  HostName no.such.host.invalid\n")
    assert "no host login: its name cannot be looked up" in failed(laptop).message

    laptop.node.stop()
    laptop.configure()
    assert "no ssh server listens there" in failed(laptop).message

    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        laptop.configure("user", silent.getsockname()[1])
        monkeypatch.setattr(ssh, "CONNECT_SECONDS", 1)
        assert "login does not answer" in failed(laptop).message

    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserError, match="ssh is not on the PATH"):
        said(["true"])


@pytest.mark.parametrize(
    "host", ["-oProxyCommand=x", "me@-oProxyCommand=x", "", "a b", "a\nb", "a;b", "$(id)"]
)
def test_a_host_that_ssh_would_read_as_an_option_is_refused(host: str) -> None:
    with pytest.raises(UserError, match="no host"):
        check_destination(host)


@pytest.mark.parametrize(
    "host", ["lab", "me@lab.example.org", "ssh://me@lab:2222", "me@[::1]", "fe80::1%eth0"]
)
def test_names_as_ssh_spells_them_are_hosts(host: str) -> None:
    assert check_destination(host) == host


def test_a_home_is_the_other_machines() -> None:
    assert quoted(["~/a b/jobctl", "~"]) == "~/'a b/jobctl' '~'"


def test_a_folder_that_others_may_write_or_that_is_too_long_holds_no_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / ("x" * 60)))
    assert socket_folder() is None
    monkeypatch.setattr(ssh, "SOCKET_FOLDER_BYTES", 4096)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert socket_folder() == tmp_path / "jobctl"
    (tmp_path / "jobctl").chmod(0o777)
    assert socket_folder() is None
    (tmp_path / "jobctl").rmdir()
    (tmp_path / "jobctl").symlink_to(tmp_path)
    assert socket_folder() is None

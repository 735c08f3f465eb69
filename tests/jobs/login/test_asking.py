"""A request over a real connection: what was not heard, what broke, and what was answered."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from jobctl import __version__
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.login.asking import Broken, ask, ask_for_files
from jobctl.jobs.login.request import Copy, Request
from tests.clusters.sshd import HOST, Laptop, write_jobctl

MODELS = Request(version=__version__, words=("catalog", "list", "models"))


@pytest.fixture
def program(laptop: Laptop) -> Path:
    return write_jobctl(laptop.node.folder / "there", {})


def answered(program: object, request: Request = MODELS) -> tuple[int, str]:
    said: list[bytes] = []
    return ask(HOST, str(program), request, said.append), b"".join(said).decode()


def script(laptop: Laptop, text: str) -> Path:
    path = laptop.node.folder / "script"
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(0o755)
    return path


def test_output_and_exit_code_are_those_of_the_other_side(program: Path) -> None:
    code, out = answered(program)
    assert (code, "qwen3_smoke" in out) == (0, True)
    assert answered(program, Request(version=__version__, words=("catalog", "list", "nothing"))) == (2, "")


def test_a_greeting_and_the_exit_code_of_ssh_itself_change_nothing(laptop: Laptop, program: Path) -> None:
    assert answered(script(laptop, f"echo Welcome; printf 'to all'; exec {program} over-ssh")) == answered(
        program
    )
    end = r"printf '\0jobctl\n'; read -r request; printf 'out\n\0exit 255\n'; exit 3"
    assert answered(script(laptop, end)) == (255, "out\n")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no-such-jobctl", "login has no command no-such-jobctl"),
        ("/etc/passwd", "login has no command /etc/passwd"),
        ("false", r"jobctl on login did not take the request \(exit code 1\)"),
    ],
)
def test_a_login_node_without_jobctl_is_said_to_be(laptop: Laptop, name: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        answered(name)


def test_another_version_on_the_login_node_is_named(
    laptop: Laptop, capfd: pytest.CaptureFixture[str]
) -> None:
    assert answered(write_jobctl(laptop.node.folder / "old", {}, version="0.0.7")) == (2, "")
    assert f"jobctl is 0.0.7 on the login node and {__version__} on your machine" in capfd.readouterr().err


def test_a_connection_that_breaks_before_the_request_was_sent_is_no_doubt(laptop: Laptop) -> None:
    with pytest.raises(UserError) as failed:
        answered(script(laptop, "kill -9 $PPID; sleep 60"))
    assert not isinstance(failed.value, Broken)


@pytest.mark.parametrize(
    "text", [r"printf '\0jobctl\n'; read -r", r"printf '\0jobctl\n'; read -r; echo half"]
)
def test_a_connection_that_breaks_after_it_leaves_the_result_unknown(laptop: Laptop, text: str) -> None:
    program = script(laptop, f"{text}; kill -9 $PPID; sleep 60")
    with pytest.raises(Broken, match="the connection to login broke"):
        answered(program)
    request = Request(version=__version__, copy=Copy(run="r"))
    with pytest.raises((Broken, UserError)):
        ask_for_files(HOST, str(program), request, laptop.folder, lambda text: None)


def test_a_process_that_keeps_the_channel_open_does_not_keep_us(
    laptop: Laptop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobctl.jobs.login.ssh.END_SECONDS", 0.2)
    pid = laptop.folder / "pid"
    text = f"printf '\\0jobctl\\n'; read -r; sleep 600 & echo $! >{pid}; printf '\\0exit 0\\n'"
    assert answered(script(laptop, text)) == (0, "")
    os.kill(int(pid.read_text()), 9)

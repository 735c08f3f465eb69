"""The side of the login node, without a connection."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from jobctl import __version__
from jobctl.jobs.login.answer import BEGIN, end_mark
from jobctl.jobs.login.request import Request, encode

JOBCTL = [sys.executable, "-c", "from jobctl.jobs.cli import main; main()", "over-ssh"]


def asked(*words: str, acts: bool = False, texts: dict[str, str | None] | None = None) -> bytes:
    return encode(Request(version=__version__, words=words, acts=acts, texts=texts or {})) + b"\n"


def answered(request: bytes, folder: Path) -> tuple[int, bytes, str]:
    """Ask as over a connection: its input stays open until all has come."""
    with subprocess.Popen(
        JOBCTL, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=folder
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write(request)
        if not request.endswith(b"\n"):
            process.stdin.close()
        else:
            process.stdin.flush()

        out = process.stdout.read()
        err = process.stderr.read().decode()
        process.stdin.close()

    assert out.startswith(BEGIN)
    return process.returncode, out.removeprefix(BEGIN), err


def test_files_of_the_other_machine_are_read_in_the_place_of_those_here(root: Path, tmp_path: Path) -> None:
    (tmp_path / "jobctl.yaml").write_text("modle: a mistake of this machine\n")
    words = ("explain", "--model", "qwen3_smoke", "--json")
    code, out, err = answered(asked(*words, texts={"jobctl.yaml": None}), tmp_path)
    assert (code, out.endswith(end_mark(0))) == (0, True), err

    texts: dict[str, str | None] = {
        "jobctl.yaml": "site: ../x/odd.yaml\n",
        "../x/odd.yaml": "summary: s\nsettings:\n  pythn: x\n",
    }
    code, out, err = answered(asked(*words, texts=texts), tmp_path)
    assert (code, out) == (2, end_mark(2))
    assert "../x/odd.yaml:3: unknown key 'pythn'; did you mean 'python'?" in err


def test_half_a_request_does_nothing(root: Path, tmp_path: Path) -> None:
    request = asked("config", "new")
    for part in (b"", b"\n", request[:10], request[:-9]):
        code, out, err = answered(part, tmp_path)
        assert (code, out) == (2, end_mark(2))
        assert "no request of another jobctl" in err


def test_no_command_waits_for_an_answer_of_a_person(root: Path, tmp_path: Path) -> None:
    """The input stays open for as long as the connection, so a question would wait without end."""
    (tmp_path / "asks.py").write_text(
        "import click, jobctl.jobs.cli.over_ssh as side\n"
        "side._answer = lambda line, has_terminal: click.confirm('sure?')\n"
        "side.over_ssh_command()\n"
    )
    asks = [sys.executable, str(tmp_path / "asks.py")]
    with subprocess.Popen(asks, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(asked("prune"))
        process.stdin.flush()
        assert process.stdout.read().endswith(end_mark(1))


def test_a_command_that_changes_something_ends_though_nobody_hears_it(root: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        JOBCTL, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == BEGIN
    process.stdout.close()
    process.stderr.close()
    # `explain` prints much before it ends; here it stands for a submission.
    process.stdin.write(asked("explain", "--model", "qwen3_smoke", acts=True))
    process.stdin.close()
    assert process.wait() == 0


@pytest.mark.parametrize("command", [JOBCTL, ["nohup", *JOBCTL]], ids=["", "nohup"])
def test_a_command_that_only_looks_ends_with_the_connection(
    root: Path, tmp_path: Path, command: list[str]
) -> None:
    run = tmp_path / "runs" / "r"
    run.mkdir(parents=True)
    (run / "metrics").mkdir()
    words = asked("watch", str(run), "--plain")
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=tmp_path)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(words)
    process.stdin.flush()
    assert process.stdout.readline() == BEGIN
    assert process.stdout.readline().startswith(b"r")
    process.stdin.close()
    assert process.wait() == -signal.SIGHUP


def test_nothing_of_it_is_a_command_for_people(root: Path) -> None:
    done = subprocess.run([*JOBCTL[:-1], "--help"], capture_output=True, text=True, check=True)
    assert "over-ssh" not in done.stdout

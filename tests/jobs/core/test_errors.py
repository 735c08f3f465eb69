import errno
import os
import subprocess
import sys

import pytest

from jobctl.jobs.core.errors import UserError, first_line, nearest, run_command


def test_the_hint_stands_under_the_message() -> None:
    assert str(UserError("no such run", hint="jobctl list")) == "no such run\n  jobctl list"
    assert UserError("x").code == 2


def test_nearest_lists_what_there_is_when_nothing_is_near() -> None:
    assert nearest("quen3", ["qwen3", "gpt2"]) == "did you mean 'qwen3'?"
    assert nearest("zzzzzz", ["b", "a"]) == "known: a, b"


def test_a_command_leaves_with_its_code_or_with_its_errors(capsys: pytest.CaptureFixture[str]) -> None:
    def fails() -> int:
        raise UserError("no such file", hint="make it", code=7)

    with pytest.raises(SystemExit) as left:
        run_command(lambda: 3)
    assert left.value.code == 3
    with pytest.raises(SystemExit) as left:
        run_command(fails, "jobctl.docker.pin")
    assert left.value.code == 7
    assert capsys.readouterr().err == "jobctl.docker.pin: no such file\n  make it\n"


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "/data/x"),
            1,
            "jobctl: the disk of /data/x is full\n",
        ),
        (
            OSError(errno.EDQUOT, "Disk quota exceeded", "/data/x"),
            1,
            "jobctl: the quota of the disk of /data/x is used up\n",
        ),
        (
            OSError(errno.EACCES, "Permission denied", "/data/x"),
            1,
            "jobctl: /data/x: Permission denied\n",
        ),
        (OSError(errno.EIO, "Input/output error"), 1, "jobctl: Input/output error\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_what_the_system_or_the_user_ends_has_no_traceback(
    error: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails() -> int:
        raise error

    with pytest.raises(SystemExit) as left:
        run_command(fails)
    assert (left.value.code, capsys.readouterr().err) == (code, said)


def test_a_reader_that_has_gone_ends_a_command_without_a_word() -> None:
    program = "from jobctl.jobs.core.errors import run_command\nrun_command(lambda: print('x' * 2**20) or 0)"
    command = [sys.executable, "-c", program]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.read(1)
    process.stdout.close()
    with process.stderr:
        assert process.stderr.read() == b""
    assert process.wait() == 141


@pytest.mark.parametrize("closed", [">&-", ">&- 2>&-", "</dev/null >&-"])
def test_a_closed_output_is_no_traceback(closed: str) -> None:
    program = "from jobctl.jobs.core.errors import run_command; run_command(lambda: print('x') or 0)"
    command = f'{sys.executable} -c "{program}" {closed}'
    done = subprocess.run(["bash", "-c", command], stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_wrong_name_among_many_prints_a_few() -> None:
    """One wrong word once printed sixty names."""
    many = [f"setting_{number}" for number in range(60)]
    assert nearest("setting_5x", many) == "did you mean 'setting_5'?"
    answer = nearest("zzz", many)
    assert answer.startswith("the nearest of 60 names: ")
    assert answer.count(",") == 2


def test_a_wrong_name_among_few_prints_them_all() -> None:
    assert nearest("zzz", ["b", "a", "a"]) == "known: a, b"


def test_an_error_without_a_message_is_named_by_its_type() -> None:
    assert first_line(RuntimeError("\nno kernel\nfor this shape")) == "no kernel"
    assert first_line(KeyboardInterrupt()) == "KeyboardInterrupt"


def test_an_output_on_a_full_disk_is_said_once() -> None:
    program = "from jobctl.jobs.core.errors import run_command\nrun_command(lambda: print('x') or 0)"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [sys.executable, "-c", program], stdout=full, stderr=subprocess.PIPE, text=True, env=environment
        )
    assert (ended.returncode, ended.stderr) == (1, "jobctl: the disk of the standard output is full\n")

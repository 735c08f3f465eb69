"""What someone else owns or may change is not trusted, in Python and in a job's shell alike."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from jobctl.jobs.core.errors import UserError
from jobctl.jobs.core.ownership import EVERYONE, Untrusted, check_link, check_run, user_id, user_name
from jobctl.jobs.render import shell_functions

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to other users, which root alone may")
DAEMON = 1
STRANGE = 54321
"""A number that no user and no group has."""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run directory below a root that everyone may write, as ``chmod 1777`` makes it."""
    root = tmp_path / "root"
    path = root / "runs" / "r"
    (path / "logs").mkdir(parents=True)
    (path / "script").write_text("true")
    root.chmod(0o1777)
    return path


def refusal_of_python(run: Path, trusted: tuple[str, ...]) -> str:
    try:
        check_run(run, run.parent.parent, trusted)
    except Untrusted as error:
        return str(error)
    return ""


def refusal_of_shell(run: Path, trusted: tuple[str, ...]) -> str:
    functions = shell_functions("ownership")
    names = " ".join(trusted)
    script = f'set -euo pipefail\nfail() {{ echo "$*"; exit 2; }}\n{functions}\nJOB_TRUSTED=(root {names})\ncheck_run\n'
    variables = {"RUN_DIR": str(run), "JOBCTL_ROOT": str(run.parent.parent), "PATH": os.environ["PATH"]}
    done = subprocess.run(["bash", "-c", script], env=variables, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.returncode == (2 if done.stdout else 0)
    return done.stdout


Refusal = Callable[[Path, tuple[str, ...]], str]
BOTH = pytest.mark.parametrize("refusal", [refusal_of_python, refusal_of_shell])


@BOTH
def test_a_run_of_ones_own_is_trusted(run: Path, refusal: Refusal) -> None:
    assert refusal(run, ()) == ""


@BOTH
@pytest.mark.parametrize("part", [".", "script", "logs"])
def test_what_someone_else_owns_is_refused_until_the_owner_is_named(
    run: Path, part: str, refusal: Refusal
) -> None:
    os.chown(run / part, DAEMON, DAEMON)
    assert "belongs to daemon" in refusal(run, ())
    assert "--trust-owner daemon" in refusal(run, ())
    assert "belongs to daemon" in refusal(run, ("bin",))
    for trusted in ("daemon", str(DAEMON), EVERYONE):
        assert refusal(run, (trusted,)) == ""


@BOTH
def test_a_link_is_refused_whoever_is_trusted(run: Path, tmp_path: Path, refusal: Refusal) -> None:
    (run / "logs").rmdir()
    (run / "logs").symlink_to(tmp_path)
    assert "logs is a symbolic link" in refusal(run, ())
    assert "logs is a symbolic link" in refusal(run, (EVERYONE,))
    (run / "logs").unlink()
    (run / "checkpoints").symlink_to(tmp_path / "nowhere")
    assert "checkpoints is a symbolic link" in refusal(run, ())


@BOTH
def test_a_run_directory_that_is_a_link_is_refused(run: Path, tmp_path: Path, refusal: Refusal) -> None:
    run.rename(tmp_path / "elsewhere")
    run.symlink_to(tmp_path / "elsewhere")
    assert "runs/r is a symbolic link" in refusal(run, ())


@BOTH
def test_what_everyone_may_change_is_refused(run: Path, refusal: Refusal) -> None:
    (run / "script").chmod(0o666)
    assert f"everyone can change {run / 'script'}" in refusal(run, ())
    assert refusal(run, (EVERYONE,)) == ""


@BOTH
def test_a_group_may_change_a_run_where_the_root_is_open_to_it(run: Path, refusal: Refusal) -> None:
    os.chown(run, 0, DAEMON)
    run.chmod(0o2775)
    assert "group daemon can change" in refusal(run, ())
    os.chown(run.parent.parent, 0, DAEMON)
    run.parent.parent.chmod(0o755)
    assert "group daemon can change" in refusal(run, ())
    run.parent.parent.chmod(0o2775)
    assert refusal(run, ()) == ""


@BOTH
@pytest.mark.parametrize("number", [0, DAEMON, STRANGE])
def test_a_group_of_the_owners_own_may_change_it(run: Path, number: int, refusal: Refusal) -> None:
    """As the many systems have it whose users each have a group, and a umask of 002."""
    os.chown(run / "logs", number, number)
    (run / "logs").chmod(0o775)
    assert refusal(run, (str(number),)) == ""


@BOTH
def test_anyone_may_ask_a_run_to_stop(run: Path, refusal: Refusal) -> None:
    for name in ("STOP", "STOP.eval"):
        (run / name).touch()
        os.chown(run / name, DAEMON, DAEMON)
    assert refusal(run, ()) == ""


def test_a_user_is_known_by_name_or_number() -> None:
    assert (user_id("daemon"), user_id("77"), user_name(DAEMON), user_name(STRANGE)) == (
        1,
        77,
        "daemon",
        "54321",
    )
    with pytest.raises(UserError, match="--trust-owner nobody-here: this machine has no such user"):
        user_id("nobody-here")


def test_a_link_to_someone_elses_file_is_refused_but_for_ones_own_and_roots(tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.write_text("key")
    link = tmp_path / "texts.txt"
    link.symlink_to(private)
    check_link(link)
    check_link(private)
    os.chown(link, DAEMON, DAEMON, follow_symlinks=False)
    with pytest.raises(Untrusted, match=r"texts\.txt is a link that daemon made to a file of someone else"):
        check_link(link)
    os.chown(private, DAEMON, DAEMON)
    check_link(link)

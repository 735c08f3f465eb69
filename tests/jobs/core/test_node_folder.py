"""A process's folder goes with it: at once where it ends well, at the next start where it was killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jobctl.jobs.core.node_folder import LOCK, NodeFolder

MAKE_AND_WAIT = """
import sys, time
from pathlib import Path
from jobctl.jobs.core.node_folder import NodeFolder

print(NodeFolder("kind-", Path(sys.argv[1])).path, flush=True)
time.sleep(600)
"""


@pytest.fixture
def process(tmp_path: Path) -> subprocess.Popen[str]:
    """Another process, which has made its folder and lives."""
    return subprocess.Popen(
        [sys.executable, "-c", MAKE_AND_WAIT, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )


def test_a_killed_process_leaves_its_folder_until_the_next_one_starts(
    tmp_path: Path, process: subprocess.Popen[str]
) -> None:
    assert process.stdout is not None
    folder = Path(process.stdout.readline().strip())
    (folder / "file").write_text("x")

    first = NodeFolder("kind-", tmp_path)
    assert folder.is_dir(), "its process lives"
    first.close()

    process.kill()
    process.wait()
    process.stdout.close()
    assert folder.is_dir()
    second = NodeFolder("kind-", tmp_path)
    assert list(tmp_path.iterdir()) == [second.path]
    second.close()
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_ours_stays(tmp_path: Path) -> None:
    uid = os.getuid()
    without_lock = tmp_path / f"kind-{uid}-without"
    without_lock.mkdir()
    target = tmp_path / "elsewhere"
    target.mkdir()
    (target / LOCK).touch()
    (tmp_path / f"kind-{uid}-link").symlink_to(target)
    other_kind = tmp_path / f"other-{uid}-x"
    other_kind.mkdir()
    (other_kind / LOCK).touch()

    NodeFolder("kind-", tmp_path).close()
    assert without_lock.is_dir()
    assert (target / LOCK).exists()
    assert other_kind.is_dir()


def test_nobody_else_may_read_it(tmp_path: Path) -> None:
    folder = NodeFolder("kind-", tmp_path)
    assert folder.path.stat().st_mode & 0o777 == 0o700
    folder.close()
    folder.close()

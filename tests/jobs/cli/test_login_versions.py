"""A login node with another jobctl than the laptop's, over a real ssh server: plain words, and nothing done."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobctl import __version__
from jobctl.jobs.core import layout
from tests.clusters.sshd import HOST, Laptop, login_node, write_jobctl
from tests.jobs.cli.test_login import SITE
from tests.jobs.monitoring.runs import write_run

REPOSITORY = Path(__file__).parents[3]
OVER_SSH = "jobs/cli/over_ssh.py"
SOME_DOZENS = 48


@pytest.fixture
def laptop(root: Path) -> Iterator[Laptop]:
    """Its login node has a run and no Slurm."""
    write_run(layout.run_dir(root, "first"))
    with login_node() as (_, laptop):
        (laptop.folder / "bin" / "git").symlink_to(str(shutil.which("git")))
        yield laptop


def use(laptop: Laptop, program: Path, root: Path) -> None:
    (laptop.work / "lab.yaml").write_text(SITE.format(root=root, host=HOST, jobctl=program))
    (laptop.work / "jobctl.yaml").write_text("target: slurm\nsite: ./lab.yaml\n")


def git(*words: str) -> str:
    return subprocess.check_output(["git", "-C", str(REPOSITORY), *words], text=True).strip()


def has_history() -> bool:
    """Return whether older commits can be checked out here: not in an archive, and not in a shallow clone."""
    try:
        return git("rev-parse", "--is-shallow-repository") == "false"
    except (OSError, subprocess.CalledProcessError):
        return False


needs_history = pytest.mark.skipif(not has_history(), reason="this source has no older commits")


def older(laptop: Laptop, commit: str) -> Path:
    """Return the jobctl of a checkout of an older commit, on the login node."""
    tree = laptop.node.folder / "older"
    clone = ["git", "clone", "--quiet", "--shared", "--no-checkout", str(REPOSITORY), str(tree)]
    subprocess.run(clone, check=True, capture_output=True)
    subprocess.run(["git", "-C", str(tree), "checkout", "--quiet", commit], check=True, capture_output=True)
    program = write_jobctl(laptop.node.folder / "there", {})
    program.write_text(
        program.read_text().replace(
            "import jobctl\n", f"sys.path.insert(0, {str(tree / 'src')!r})\nimport jobctl\n"
        )
    )
    return program


@pytest.mark.parametrize(
    "words",
    [
        "list",
        "status first",
        "logs first",
        "submit --model qwen3_smoke --run r",
        "submit --model qwen3_smoke --run r --wait",
        "cancel first",
        "resume first",
        "delete first --yes",
        "collect first -o copy",
        "report first",
        "site check",
    ],
)
def test_another_version_refuses_in_words_and_does_nothing(laptop: Laptop, root: Path, words: str) -> None:
    use(laptop, write_jobctl(laptop.node.folder / "there", {}, version="0.0.7"), root)
    before = sorted(root.rglob("*"))
    code, out, err = laptop.says(*words.split())
    assert (code, out) == (2, ""), err
    assert err == (
        f"jobctl: jobctl is 0.0.7 on the login node and {__version__} on your machine\n"
        "  install the same version on both\n"
    )
    assert sorted(root.rglob("*")) == before
    assert not (laptop.work / "first.html").exists()


@needs_history
def test_a_jobctl_from_before_ssh_is_called_older(laptop: Laptop, root: Path) -> None:
    added = git("log", "--diff-filter=A", "--format=%H", "--", OVER_SSH).splitlines()[-1]
    use(laptop, older(laptop, git("rev-parse", f"{added}^")), root)
    for words in (["list"], ["cancel", "first"], ["collect", "first", "-o", "copy"]):
        code, out, err = laptop.says(*words)
        assert (code, out) == (1, ""), err
        assert "jobctl on login is older than yours, and does not answer over ssh\n" in err
        assert f"install the same version on both: here it is {__version__}" in err


@needs_history
def test_a_checkout_from_some_dozens_of_commits_ago_answers_and_is_named(laptop: Laptop, root: Path) -> None:
    commit = git("rev-list", "--max-count=1", f"--skip={SOME_DOZENS}", "HEAD")
    use(laptop, older(laptop, commit), root)
    code, out, err = laptop.says("analyze", "first")
    assert (code, "first" in out) == (0, True), err
    code, out, err = laptop.says("prune", "--yes", "--state", "failed")
    assert code == 0, err
    # The older jobctl says it, in the words of its time.
    assert "revision" in err
    assert commit in err

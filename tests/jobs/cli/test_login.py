"""Which commands act on the login node, and what of this machine cannot go there."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobctl.jobs.cli.login import login_in_force
from jobctl.jobs.core.errors import UserError
from tests.clusters.sshd import HOST, Laptop, login_node, write_jobctl
from tests.jobs.cli.test_cli import Invoke, jobctl  # noqa: F401 - a fixture

SITE = "summary: s\nsettings:\n  root: {root}\n  login:\n    host: {host}\n    jobctl: {jobctl}\n"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a login node, on a machine that has none of Slurm's commands."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/nowhere")
    Path("lab.yaml").write_text(SITE.format(root="/shared", host="me@lab", jobctl="jobctl"))
    Path("jobctl.yaml").write_text("target: slurm\nsite: ./lab.yaml\n")
    return tmp_path


def host(**options: object) -> str | None:
    login = login_in_force(options)
    return login.host if login else None


def test_the_target_and_the_site_decide(project: Path) -> None:
    assert host() == "me@lab"
    assert host(target="slurm", site="./lab.yaml") == "me@lab"
    assert host(sets=("login.host=lab2", "slurm.partition=x")) == "lab2"
    assert host(sets=("login.host=",)) is None
    for options in ({"target": "local"}, {"target": "allocation"}, {"target": "k8s"}, {"site": "local"}):
        assert host(**options) is None


def test_the_login_node_itself_acts_at_once(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same site file serves both: there, Slurm's commands are on the PATH."""
    for name in ("sbatch", "squeue", "scontrol"):
        assert host() == "me@lab"
        path = project / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
        monkeypatch.setenv("PATH", str(path.parent))
    assert host() is None


def test_a_run_that_is_named_by_its_folder_is_here(project: Path) -> None:
    (project / "copy").mkdir()
    assert host(runs=("first",)) == "me@lab"
    assert host(runs=("./copy",)) is None


def test_a_root_that_only_this_machine_knows_is_refused(project: Path) -> None:
    Path("lab.yaml").write_text(SITE.format(root="./here", host="me@lab", jobctl="jobctl"))
    with pytest.raises(UserError, match=r"root is '\./here', a folder of this machine"):
        host()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("submit --model qwen3_smoke --patch", "--patch: the jobs run on me@lab and cannot read"),
        (
            "submit prep --dataset sotu --tokenizer ./words",
            "copy it to tokenizers/words in the root on me@lab",
        ),
        ("watch first --notify", "the command of the project file would run on me@lab"),
        ("status first --site ./none.yaml", "none.yaml: cannot be read"),
        ("status first", "ssh is not on the PATH"),
    ],
)
def test_what_cannot_go_there_is_refused_in_words(
    project: Path,
    jobctl: Invoke,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    words: str,
    message: str,
) -> None:
    (project / "words").mkdir()
    code, out, err = jobctl(*words.split())
    assert (code, out, message in err) == (2, "", True), err


@pytest.fixture
def laptop(tmp_path: Path) -> Iterator[Laptop]:
    """Its login node has no Slurm, but a root."""
    with login_node() as (node, laptop):
        program = write_jobctl(node.folder / "there", {})
        (laptop.work / "lab.yaml").write_text(SITE.format(root=tmp_path, host=HOST, jobctl=program))
        (laptop.work / "jobctl.yaml").write_text("target: slurm\nsite: ./lab.yaml\n")
        yield laptop


def test_render_and_explain_stay_here(laptop: Laptop) -> None:
    laptop.node.stop()
    for verb in ("render", "explain"):
        assert laptop.says(verb, "--model", "qwen3_smoke")[0] == 0


def test_a_verb_that_stays_here_does_not_load_what_goes_there() -> None:
    program = (
        "import sys; from jobctl.jobs.cli import invoke; invoke(['render', '--model', 'qwen3_smoke']);"
        "sys.exit(any('login' in name and 'section' not in name for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=False).returncode == 0


def test_nothing_is_left_on_the_laptop_by_a_failure(laptop: Laptop) -> None:
    laptop.node.stop()
    code, out, err = laptop.says("list")
    assert (code, out, "no ssh server listens there" in err) == (1, "", True)
    code, out, err = laptop.says("collect", "first", "-o", "copy")
    assert (code, out, "no ssh server listens there" in err) == (1, "", True)
    code, out, err = laptop.says("submit", "--model", "qwen3_smoke")
    assert (code, "no ssh server" in err, "whether" in err) == (1, True, False)


def test_a_run_that_is_not_there_is_refused_in_the_words_of_the_login_node(laptop: Laptop) -> None:
    code, out, err = laptop.says("collect", "first", "-o", "copy")
    assert (code, out, "no run 'first'" in err) == (2, "", True)


def test_ctrl_c_ends_the_wait_and_says_what_is_known(laptop: Laptop, tmp_path: Path) -> None:
    script = laptop.node.folder / "hangs"
    script.write_text("#!/bin/sh\nprintf '\\0jobctl\\n'\nread -r request\necho at work\ncat >/dev/null\n")
    script.chmod(0o755)
    for words, said in (
        (["wait", "r"], "run the command again: jobctl wait r"),
        (["cancel", "r"], "jobctl status r shows"),
    ):
        (laptop.work / "lab.yaml").write_text(SITE.format(root=tmp_path, host=HOST, jobctl=script))
        started = laptop.start(*words)
        assert started.stdout is not None
        assert started.stdout.readline() == "at work\n"
        started.send_signal(signal.SIGINT)
        err = started.communicate()[1]
        assert (started.returncode, said in err, "Traceback" in err) == (130, True, False), err


def test_a_view_draws_on_this_terminal(laptop: Laptop, tmp_path: Path) -> None:
    (tmp_path / "runs" / "first" / "metrics").mkdir(parents=True)
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(laptop.work)
        program = "from jobctl.jobs.cli import main; main()"
        environment = laptop.environment | {"TERM": "xterm"}
        os.execve(sys.executable, ["python", "-c", program, "watch", "first", "--once"], environment)

    drawn = b""
    with contextlib.suppress(OSError):  # the other end of a terminal is closed
        while piece := os.read(terminal, 4096):
            drawn += piece
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, drawn
    assert "first" in drawn.decode()
    assert "─" in drawn.decode(), "rich draws frames on a terminal alone"

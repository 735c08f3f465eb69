"""Every verb where the site names a login node: it acts there, it acts here, or it is refused in words."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jobctl import __version__
from jobctl.jobs.cli import COMMANDS
from jobctl.jobs.core import layout
from jobctl.jobs.login.request import Request
from jobctl.jobs.spec.job_spec import JobSpec
from tests.clusters.sshd import HOST, Laptop, login_node, write_jobctl
from tests.jobs.cli.recorded import recorded
from tests.jobs.cli.test_cli import Invoke, jobctl
from tests.jobs.cli.test_login import SITE, project
from tests.jobs.monitoring.runs import write_run

__all__ = ["jobctl", "project"]

THERE, HERE, REFUSED = "there", "here", "refused"
VERBS = {
    "submit": ("--model qwen3_smoke", THERE),
    "pipeline": ("--model qwen3_smoke", THERE),
    "resume": ("first", THERE),
    "list": ("", THERE),
    "status": ("first", THERE),
    "describe": ("first", THERE),
    "watch": ("first --once", THERE),
    "logs": ("first", THERE),
    "wait": ("first", THERE),
    "shell": ("first", THERE),
    "forward": ("first", REFUSED),
    "analyze": ("first", THERE),
    "doctor": ("first", THERE),
    "sample": ("first", THERE),
    "compare": ("first second", THERE),
    "report": ("first", THERE),
    "exporter": ("", REFUSED),
    "cancel": ("first", THERE),
    "collect": ("first -o copy", THERE),
    "delete": ("first --yes", THERE),
    "prune": ("--yes", THERE),
    "nodes": ("", THERE),
    "render": ("--model qwen3_smoke", HERE),
    "estimate": ("--model qwen3_smoke", HERE),
    "plan": ("--flops 1e21 --family llama3", HERE),
    "fit": ("first second", THERE),
    "sweep": ("--model qwen3_smoke", THERE),
    "probe": ("--help", HERE),
    "explain": ("--model qwen3_smoke", HERE),
    "catalog": ("list models", HERE),
    "lint": ("script.sh", HERE),
    "tokenizer": ("gpt2", THERE),
    "site": ("check", THERE),
    "config": ("--help", HERE),
    "data": ("adopt /shared/ids --tokenizer gpt2", THERE),
}
"""Each verb with words that a person types, and where it acts."""
OTHERS = [
    ("site new", THERE),
    ("site new --target slurm --login me@lab2", THERE),
    ("exporter --once", THERE),
    ("exporter --dashboard", HERE),
    ("fit first second -o law.yaml", THERE),
    ("fit points.csv", HERE),
    ("fit points.csv first", THERE),
    ("report first --png x.png", THERE),
]
"""Words of the same verbs that act elsewhere, or by another way."""


def test_the_table_has_every_verb() -> None:
    assert list(VERBS) == list(COMMANDS)


@pytest.mark.parametrize(
    ("words", "where"), [*((f"{verb} {words}", where) for verb, (words, where) in VERBS.items()), *OTHERS]
)
def test_a_verb_acts_there_or_here_or_is_refused_in_words(
    project: Path,
    jobctl: Invoke,
    monkeypatch: pytest.MonkeyPatch,
    words: str,
    where: str,
) -> None:
    requests: list[Request] = []

    def ask(host: str, program: str, request: Request, *rest: object) -> int:
        requests.append(request)
        return 9

    Path("script.sh").write_text("#!/bin/bash\n")
    Path("points.csv").write_text("N,D,loss\n")
    monkeypatch.setattr("jobctl.jobs.login.asking.ask", ask)
    monkeypatch.setattr("jobctl.jobs.login.asking.ask_for_files", ask)
    monkeypatch.setattr("jobctl.jobs.cli.report.find_browser", lambda: None)
    code, out, err = jobctl(*words.split())
    assert "no run" not in err
    assert (len(requests), code == 9) == ((1, True) if where == THERE else (0, False)), err
    if where == REFUSED:
        assert (code, out) == (2, "")
        assert "me@lab" in err
        assert "\n  " in err, "it says what to do"


def test_a_name_is_that_of_a_run_although_a_folder_has_it(project: Path, jobctl: Invoke) -> None:
    """``collect first -o first`` makes one, which is a copy of what the run was."""
    (project / "first").mkdir()
    assert "ssh is not on the PATH" in jobctl("watch", "first")[2]
    assert "ssh is not on the PATH" in jobctl("sample", "first")[2]
    assert "ssh is not on the PATH" in jobctl("status", "first")[2]
    assert "ssh is not on the PATH" not in jobctl("watch", "./first")[2]
    assert "no run: it has no run.json" in jobctl("sample", "./first")[2]
    assert "no run: it has no run.json" in jobctl("fit", "./first")[2]


@pytest.fixture
def laptop(root: Path) -> Iterator[Laptop]:
    """Its login node has two runs and no Slurm."""
    for name in ("first", "second"):
        write_run(layout.run_dir(root, name))

    with login_node() as (node, laptop):
        program = write_jobctl(node.folder / "there", {})
        (laptop.work / "lab.yaml").write_text(SITE.format(root=root, host=HOST, jobctl=program))
        (laptop.work / "jobctl.yaml").write_text("target: slurm\nsite: ./lab.yaml\n")
        yield laptop


def test_a_page_is_made_there_and_written_here(laptop: Laptop) -> None:
    code, out, err = laptop.says("report", "first", "second", "-o", "page.html")
    assert (code, out.startswith("page.html (1")) == (0, True), err
    page = (laptop.work / "page.html").read_text()
    assert "Report of first, second" in page
    assert page.rstrip().endswith("</html>")
    assert laptop.says("report", "first")[1].startswith("first.html (1")
    code, out, err = laptop.says("report", "gone", "-o", "gone.html")
    assert (code, out, "no run 'gone'" in err) == (2, "", True), err
    assert not (laptop.work / "gone.html").exists()


def test_a_run_that_sample_does_not_know_is_refused_by_the_login_node(laptop: Laptop) -> None:
    code, out, err = laptop.says("sample", "gone")
    assert (code, out, "no run 'gone'" in err) == (2, "", True), err


def test_a_site_file_is_written_here_from_what_the_cluster_has(laptop: Laptop, root: Path) -> None:
    """The project already names the file, which the shell has emptied."""
    commands = laptop.node.folder / "slurm"
    commands.mkdir()
    answers = {
        "sinfo": "echo 'batch*|gpu:a6000:2'",
        "sacctmgr": "exit 1",
        "srun": "exit 1",
        "sbatch": "",
        "squeue": "",
        "scontrol": "",
    }
    for name, text in answers.items():
        (commands / name).write_text(f"#!/bin/bash\n{text}\n")
        (commands / name).chmod(0o755)

    program = write_jobctl(laptop.node.folder / "slurm's", {"PATH": f"{commands}:/usr/bin:/bin"})
    words = ["site", "new", "--target", "slurm", "--login", HOST, "--login-jobctl", str(program)]
    (laptop.work / "lab.yaml").write_text("")
    code, out, err = laptop.says(*words)
    assert (code, 'partition: "batch"' in out) == (0, True), err
    (laptop.work / "lab.yaml").write_text(out)
    assert laptop.says("explain", "--model", "qwen3_smoke")[0] == 0
    assert f'host: "{HOST}"' in out
    code, again, err = laptop.says("site", "new")
    assert (code, again) == (0, out), err


def test_a_machine_without_the_cluster_is_told_how_to_reach_it(laptop: Laptop) -> None:
    (laptop.work / "lab.yaml").write_text("")
    code, _, err = laptop.says("site", "new")
    assert (code, "--login HOST" in err) == (0, True), err
    code, _, err = laptop.says("site", "new", "--target", "k8s", "--login", HOST)
    assert (code, "--login: target k8s has no login node" in err) == (2, True), err
    code, _, err = laptop.says("site", "new", "--login-jobctl", "x")
    assert (code, "--login HOST" in err) == (2, True), err


def test_two_checkouts_of_one_version_are_named(laptop: Laptop, root: Path) -> None:
    (laptop.folder / "bin" / "git").symlink_to(str(shutil.which("git")))
    node = laptop.node.folder / "other"
    program = write_jobctl(node, {})
    text = program.read_text().replace(
        "main()", "import jobctl.jobs.cli.over_ssh as side\nside.git_revision = lambda: 'abc-dirty'\nmain()"
    )
    program.write_text(text)
    (laptop.work / "lab.yaml").write_text(SITE.format(root=root, host=HOST, jobctl=program))
    code, _, err = laptop.says("prune", "--yes", "--state", "failed")
    assert (code, f"jobctl is {__version__} here and on the login node, but the code" in err) == (
        0,
        True,
    ), err
    assert "abc-dirty on the login node" in err
    assert "the code differs" not in laptop.says("list")[2]


Job = Callable[..., JobSpec]


def test_a_folder_that_was_collected_is_sampled(
    jobctl: Invoke,
    root: Path,
    job: Job,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = recorded(root, job("true"))
    (run.path / "checkpoints").mkdir()
    run.path.rename(tmp_path / "copy")
    python = tmp_path / "python"
    python.write_text('#!/bin/bash\nprintf "%s\\n" "$@" >words\n')
    python.chmod(0o755)
    monkeypatch.setenv("JOBCTL_PYTHON", str(python))
    monkeypatch.chdir(tmp_path)
    assert jobctl("sample", "./copy")[0] == 0
    assert (tmp_path / "words").read_text().splitlines()[2] == str(tmp_path / "copy")


def test_a_law_is_printed_alone(jobctl: Invoke, tmp_path: Path) -> None:
    from tests.jobs.scaling.synthetic import points

    file = tmp_path / "points.csv"
    rows = [f"{p.parameters},{p.tokens},{p.loss}" for p in points(50, 0.003, seed=1)]
    file.write_text("\n".join(["N,D,loss", *rows]))
    code, out, err = jobctl("fit", str(file), "-o", "-", "--resamples", "40")
    assert (code, "VALUE" in out, "VALUE" in err) == (0, False, True)
    (tmp_path / "law.yaml").write_text(out)
    assert (
        jobctl("plan", "--fit", str(tmp_path / "law.yaml"), "--flops", "1e21", "--family", "llama3")[0] == 0
    )


def test_what_broke_is_said_again_with_all_its_words(laptop: Laptop, root: Path) -> None:
    script = laptop.node.folder / "breaks"
    script.write_text("#!/bin/sh\nprintf '\\0jobctl\\n'\nread -r request\nkill -9 $PPID\nsleep 60\n")
    script.chmod(0o755)
    (laptop.work / "lab.yaml").write_text(SITE.format(root=root, host=HOST, jobctl=script))
    code, _, err = laptop.says("watch", "first", "second", "--plain")
    assert (code, "run the command again: jobctl watch first second --plain\n" in err) == (1, True), err


def test_the_machine_that_the_doctor_sees_is_the_login_node(laptop: Laptop) -> None:
    assert "the login node" in laptop.says("doctor", "--target", "slurm", "--json")[1]


def test_a_root_that_nobody_has_made_is_said_to_be_none(laptop: Laptop, root: Path) -> None:
    program = laptop.node.folder / "there" / "jobctl"
    (laptop.work / "lab.yaml").write_text(SITE.format(root=f"{root}/gone", host=HOST, jobctl=program))
    assert "/gone, a folder that does not exist yet" in laptop.says("list")[1]

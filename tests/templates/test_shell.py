"""The shared shell: plain files of functions, which shellcheck reads as they stand, and what the functions promise."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from jobctl.jobs.render import TEMPLATES, shell_functions
from jobctl.k8s.script import function_files as function_files_of_pods
from jobctl.slurm.script import function_files
from tests.jobs.core.test_exit_codes import bash
from tests.k8s.conftest import spec_of as pod_spec_of
from tests.slurm.test_script import GPU, spec_of

FILES = sorted(TEMPLATES.rglob("*.sh"))
IN_OTHER_FILES = "SC2034,SC2153"
"""A variable that one file sets and another one uses: unused, or a misspelling, to who sees one file."""


def name_of(file: Path) -> str:
    """The name by which a template includes the file."""
    folder = file.parent.name
    return file.stem if folder == "shell" else f"{folder}/{file.stem}"


def test_shellcheck_finds_nothing_in_the_files_as_they_stand() -> None:
    if shutil.which("shellcheck") is None and os.environ.get("JOBCTL_REQUIRE_SHELLCHECK") != "1":
        pytest.skip("shellcheck is not installed: apt-get install shellcheck")
    command = ["shellcheck", "--shell=bash", "--severity=style", f"--exclude={IN_OTHER_FILES}", *FILES]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == ""
    assert len(FILES) > 15


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_a_file_only_defines_functions(file: Path) -> None:
    """What it does at once would happen before the script's own first paragraph."""
    show = f"before=$(declare -p); set -x; . {file}; set +x; declare -F"
    done = subprocess.run(["bash", "-c", show], capture_output=True, text=True, check=True)
    assert [line for line in done.stderr.splitlines() if line.startswith("+")] == [f"+ . {file}", "+ set +x"]
    assert done.stdout.startswith("declare -f ")


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_a_file_has_no_jinja_in_it(file: Path) -> None:
    assert not re.search(r"\{\{|\{%|%\}|\{##", file.read_text())


@pytest.mark.parametrize("target", ["kubernetes", "slurm"])
def test_the_script_of_a_cluster_reads_from_top_to_bottom(target: str) -> None:
    """Its parts decide what a job needs. The script itself only says whether the nodes are checked."""
    text = (TEMPLATES / target / "script.sh.j2").read_text()
    assert re.findall(r"\{% (?:if|elif|else|for)[^%]*%\}", text) == ["{% if check %}"]


def test_each_file_is_part_of_a_script_and_no_function_is_defined_twice() -> None:
    templates = "".join(path.read_text() for path in TEMPLATES.rglob("*.sh.j2"))
    included = set(re.findall(r'"([a-z_/]+)"', " ".join(re.findall(r"functions\((.*?)\)", templates))))
    sets = (
        "container_runtime=pyxis",
        "image=a.registry/jobctl:1",
        "preflight=stop",
        "secrets_file=~/.k",
        "pass_env=[K]",
    )
    for allocation in (False, True):
        included |= {*function_files(spec_of(*sets, **GPU), allocation=allocation, keeps_container=True)}
    for nodes in (1, 2):
        sets = ("kubernetes.secret=tokens", "preflight=stop", "project_dir=/workspace/code")
        included |= {*function_files_of_pods(pod_spec_of(nodes=nodes, sets=sets))}

    assert included == {name_of(file) for file in FILES}

    once = (
        "reason_of",
        "finish",
        "run",
        "read_secrets",
        "signal_steps",
        "watch_clock",
        "on_end",
        "enter_attempt",
    )  # each target has its own
    defined = re.findall(r"^(\w+)\(\) \{", "".join(file.read_text() for file in FILES), re.M)
    assert sorted({name for name in defined if defined.count(name) > 1} - set(once)) == []


def test_a_command_keeps_its_exit_code_whatever_signals_its_shell_gets(tmp_path: Path) -> None:
    """Bash may forget the code of a child that ends while a signal interrupts wait."""
    ready = tmp_path / "ready"
    os.mkfifo(ready)
    signals = "kill -USR2 $PPID; for _ in {1..50}; do kill -TERM $1; done"
    command = f"bash -c 'echo >{ready}; {signals}; exit 7' x $$"
    script = f"{shell_functions('supervise')}LOG_DIR={tmp_path}; trap : TERM USR2; supervise {command}"
    shell = subprocess.Popen(["bash", "-c", script])
    ready.read_text()
    shell.send_signal(signal.SIGTERM)
    assert shell.wait(timeout=60) == 7
    assert [path.name for path in tmp_path.iterdir()] == ["ready"]


def test_while_a_command_runs_its_process_id_is_known(tmp_path: Path) -> None:
    script = (
        f"{shell_functions('supervise')}file={tmp_path}/code-n1\n"
        'keep_code "$file" bash -c \'echo $$; cat "$1"\' x "${file%/*}/.code-n1.pid" || true; echo "$(<"$file")"'
    )
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    own, kept, code = done.stdout.split()
    assert own == kept
    assert code == "0"


@pytest.mark.parametrize(("reason", "allowed"), [("failed", False), ("hardware", False), ("preempted", True)])
def test_failures_use_up_the_retries_and_other_ends_do_not(
    reason: str, allowed: bool, tmp_path: Path
) -> None:
    folder = tmp_path / "attempts"
    folder.mkdir()
    for number, (step, task) in enumerate((("train", 0), ("train", 0), ("eval", 0), ("train", 1)), 1):
        line = f'{{"step": "{step}", "task": {task}, "tasks": 2, "reason": "{reason}"}}\n'
        (folder / f"{number}.json").write_text(line)
    ask = "if has_retries_left; then echo yes; else echo no; fi"
    data = f"RUN_DIR={tmp_path}; JOB_STEP=train; JOB_RETRIES=1"
    assert bash(f"{shell_functions('retries')}{data}; {ask}") == ("yes\n" if allowed else "no\n")

"""What the shell functions of a Slurm job promise, each by itself."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from jobctl.jobs.render import shell_functions
from tests.jobs.spec.test_reserved import assigned

FILES = ("messages", "slurm/controller", "slurm/ending", "slurm/inherited", "slurm/meeting", "slurm/nodes")


def shell(command: str, **variables: str) -> str:
    """Run a command after the functions have been defined; its standard output."""
    text = f"set -euo pipefail\n{shell_functions(*FILES)}\n{command}"
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **variables}
    done = subprocess.run(["bash", "-c", text], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def commands(folder: Path, **bodies: str) -> str:
    """Make stand-ins for commands; the search path that has them first."""
    for name, body in bodies.items():
        (folder / name).write_text(f"#!/bin/bash\n{body}\n")
        (folder / name).chmod(0o755)
    return f"{folder}:/usr/bin:/bin"


@pytest.mark.parametrize(
    ("cpus", "ranks", "expected"),
    [("16(x2)", 8, "16 2"), ("16(x2),4", 8, "4 1"), ("128", 8, "128 8"), ("8", 1, "8 8"), ("", 2, "1 1")],
)
def test_ranks_share_the_cpus_of_the_smallest_node(cpus: str, ranks: int, expected: str) -> None:
    told = shell(f'echo "$(cpus_per_node) $(threads {ranks})"', SLURM_JOB_CPUS_PER_NODE=cpus)
    assert told == expected


def test_only_what_slurm_says_of_this_job_stays_in_the_environment() -> None:
    told = shell(
        "forget_inherited; env | grep -oE '^(SLURM|SBATCH|SRUN|SALLOC)[A-Z_]*=.*' | sort",
        SLURM_JOB_ID="7",
        SLURM_JOB_NODELIST="n1",
        SLURM_ARRAY_TASK_ID="2",
        SLURM_CONF="/etc/slurm.conf",
        SLURM_MEM_PER_CPU="5",
        SLURM_GPUS_PER_TASK="1",
        SLURM_CPU_BIND="none",
        SRUN_CPUS_PER_TASK="3",
        SBATCH_EXPORT="NONE",
        SLURM_EXPORT_ENV="NONE",
    )
    assert told.split() == [
        "SLURM_ARRAY_TASK_ID=2",
        "SLURM_CONF=/etc/slurm.conf",
        "SLURM_EXPORT_ENV=ALL",
        "SLURM_JOB_ID=7",
        "SLURM_JOB_NODELIST=n1",
    ]


def test_no_variable_of_the_script_is_taken_for_an_inherited_one() -> None:
    """srun's options once were: then no job was in a container, and none ended when one of its nodes failed."""
    names = sorted(set(assigned()) - {"SLURM_EXPORT_ENV"})
    values = "\n".join(f"{name}=1" for name in names if name.startswith(("S", "JOB_")))
    kept = shell(f"{values}\nforget_inherited; set").splitlines()
    assert [line for line in values.splitlines() if line not in kept] == []
    assert "JOB_SRUN_OPTIONS=1" in kept


def test_a_nodes_address_is_the_one_from_which_it_sends_to_another(tmp_path: Path) -> None:
    path = commands(
        tmp_path,
        scontrol='echo "NodeName=n2 Arch=x NodeAddr=n2-ib NodeHostName=n2 State=IDLE"',
        getent='[ "$2" = n2-ib ] && echo "10.1.0.2 STREAM n2-ib"',
        ip='case "$*" in *"route get 10.1.0.2") echo "10.1.0.2 dev ib0 src 10.1.0.1 uid 0" ;; '
        '*"show dev eth7") echo "3: eth7 inet 10.9.0.1/24 brd x" ;; *) exit 1 ;; esac',
    )
    assert shell("JOB_INTERFACE=''; address_towards n2", PATH=path) == "10.1.0.1"
    assert shell("JOB_INTERFACE=eth7; address_towards n2", PATH=path) == "10.9.0.1"
    assert shell("JOB_INTERFACE=nope; address_towards n2 || echo none", PATH=path) == "none"


def test_a_loopback_address_is_none(tmp_path: Path) -> None:
    path = commands(tmp_path, scontrol="exit 1", getent="exit 2", ip="exit 2", hostname="echo 127.0.1.1")
    assert shell("JOB_INTERFACE=''; address_towards n2 || echo none", PATH=path) == "none"


@pytest.mark.parametrize(
    ("state", "down"),
    [
        ("IDLE", False),
        ("MIXED+PLANNED", False),
        ("DOWN*", True),
        ("IDLE*", True),
        ("MIXED+NOT_RESPONDING", True),
        ("IDLE+POWERED_DOWN", True),
    ],
)
def test_a_node_is_down_as_slurm_says(tmp_path: Path, state: str, down: bool) -> None:
    path = commands(tmp_path, scontrol=f'echo "NodeName=n2 State={state} Comment=a*b"')
    assert shell("is_down n2 && echo down || echo up", PATH=path) == ("down" if down else "up")


@pytest.mark.parametrize(
    ("run", "limit", "used"),
    [
        ("00:59:59", "01:00:00", False),
        ("01:00:00", "01:00:00", True),
        ("1-00:00:08", "1-00:00:00", True),
        ("08:09:59", "2-00:00:00", False),
        ("9-00:00:00", "UNLIMITED", False),
    ],
)
def test_a_job_has_used_its_time_as_slurm_counts_it(run: str, limit: str, used: bool) -> None:
    job = f"JobState=COMPLETING RunTime={run} TimeLimit={limit} TimeMin=N/A"
    assert shell(f"used_its_time '{job}' && echo used || echo not") == ("used" if used else "not")


@pytest.mark.parametrize(
    ("job", "requeued"),
    [
        ("JobState=COMPLETING Restarts=2 BatchFlag=1 WorkDir=/a/b", False),
        ("JobState=COMPLETING Restarts=3 BatchFlag=1 WorkDir=/a/b", True),
        ("", True),
    ],
)
def test_a_job_is_requeued_when_slurm_counts_one_restart_more(job: str, requeued: bool) -> None:
    told = shell(f"was_requeued '{job}' && echo yes || echo no", SLURM_RESTART_COUNT="2")
    assert told == ("yes" if requeued else "no")


def test_a_controller_that_comes_back_gets_the_request(tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    body = (
        f'[ "$1" != ping ] || {{ echo DOWN; exit 1; }}; echo x >>{calls}; '
        f'[ "$(wc -l <{calls})" -ge 3 ] || {{ echo "Unable to contact slurm controller"; exit 1; }}; echo "$*"'
    )
    path = commands(tmp_path, scontrol=body, sleep="exit 0")
    assert shell("ask_slurm 60 scontrol requeue 7", PATH=path) == "requeue 7"
    assert len(calls.read_text().split()) == 3


def test_a_controller_that_refuses_is_not_asked_for_ever(tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    body = f'[ "$1" != ping ] || {{ echo "is UP"; exit 0; }}; echo x >>{calls}; echo "Invalid job id"; exit 1'
    path = commands(tmp_path, scontrol=body, sleep="exit 0")
    assert shell("ask_slurm 600 scontrol requeue 7 2>&1 || echo given up", PATH=path).splitlines() == [
        "jobctl: scontrol requeue: waiting for Slurm's controller (Invalid job id)",
        "jobctl: scontrol requeue: Invalid job id",
        "given up",
    ]
    assert len(calls.read_text().split()) == 3


def test_a_command_that_waits_for_its_controller_is_not_waited_for(tmp_path: Path) -> None:
    """scontrol would wait for two minutes, and Slurm kills a job half a minute after SIGTERM."""
    path = commands(tmp_path, scontrol='[ "$1" != ping ] || exit 1; exec sleep 60')
    begin = time.monotonic()
    assert shell("ask_slurm 1 scontrol show job 7 2>&1 || echo given up", PATH=path).splitlines() == [
        "jobctl: scontrol show: no answer",
        "given up",
    ]
    assert time.monotonic() - begin < 30

"""A job that is told to end while its environment loads, or that uses all of Slurm's patience when it is preempted.

Stand-ins for Slurm's commands make the moment certain.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from jobctl.jobs.spec.resolution import Choices, resolve
from jobctl.slurm.script import render

COMMANDS = {
    "scontrol": 'case "$1 $2" in "show hostnames") echo n1 ;; "show job") echo "${JOB:-JobState=RUNNING}" ;; '
    '"show node") echo "NodeName=n1 State=IDLE ThreadsPerCore=1" ;; '
    '"show config") echo "KillWait                = 1 sec" ;; '
    '"ping "*) echo "Slurmctld(primary) at controller is UP" ;; '
    '*) echo "$1" >>"$CALLS" ;; esac',
    "scancel": 'echo scancel >>"$CALLS"',
    "srun": 'while [ "$1" != bash ]; do shift; done; SLURMD_NODENAME=n1 exec "$@"',
    "module": 'eval "$WHILE_LOADING"',
}


class Ended(NamedTuple):
    code: int
    record: dict[str, Any]
    """That of the last attempt."""
    calls: list[str]
    """``python``, and what the script asked scontrol to do."""


def executed(
    folder: Path, while_loading: str, *, stage: str = "train", kind: str = "train", **env: str
) -> Ended:
    """Run a job's script, with a shell command that runs while the site's module loads."""
    commands = {**COMMANDS, "python3": 'echo python >>"$CALLS"; eval "${WHILE_RUNNING:-}"'}
    bin_folder = folder / "bin"
    bin_folder.mkdir()
    for name, body in commands.items():
        (bin_folder / name).write_text(f"#!/bin/bash\n{body}\n")
        (bin_folder / name).chmod(0o755)
    (folder / "calls").touch()
    model = "qwen3_smoke" if kind == "train" else ""
    choices = Choices(
        kind=kind, model=model, stage=stage, target="slurm", run="r", sets=("modules=[cuda]", "preflight=off")
    )  # fmt: skip
    script = render(resolve(choices, version="0", root=str(folder / "root")).spec)
    environment = {
        "PATH": f"{bin_folder}:/usr/bin:/bin",
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NODELIST": "n1",
        "SLURM_JOB_END_TIME": "0",
        "CALLS": str(folder / "calls"),
        "RUN_FOLDER": str(folder / "root/runs/r"),
        "WHILE_LOADING": while_loading,
        **env,
    }
    done = subprocess.run(
        ["bash", "-c", script], env=environment, cwd=folder, capture_output=True, text=True, check=False
    )
    attempts = sorted((folder / "root/runs/r/attempts").glob("*.json"))
    assert attempts, done.stderr
    return Ended(
        done.returncode, json.loads(attempts[-1].read_text()), (folder / "calls").read_text().split()
    )


def test_a_quiet_job_runs(tmp_path: Path) -> None:
    ended = executed(tmp_path, "true")
    assert (ended.code, ended.record["reason"], ended.calls) == (0, "finished", ["python"])


@pytest.mark.parametrize("kind", ["train", "prep"])
def test_a_warning_before_the_job_begins_starts_nothing_and_requeues_it(kind: str, tmp_path: Path) -> None:
    ended = executed(tmp_path, "kill -USR2 $PPID", kind=kind)
    assert (ended.code, ended.record["reason"], ended.calls) == (200, "time limit", ["requeue"])


def test_an_evaluation_uses_the_time_that_remains(tmp_path: Path) -> None:
    (tmp_path / "root/runs/r").mkdir(parents=True)
    (tmp_path / "root/runs/r/run.json").write_text("{}")
    ended = executed(tmp_path, "kill -USR2 $PPID", stage="eval")
    assert (ended.code, ended.record["reason"], ended.calls) == (0, "finished", ["python"])


@pytest.mark.parametrize(
    ("facts", "reason", "calls"),
    [
        ("Restarts=0 RunTime=00:00:01", "cancelled", []),
        ("Restarts=0 RunTime=00:00:01 PreemptTime=2026-01-01T00:00:00", "preempted", ["requeue"]),
        ("Restarts=1 RunTime=00:00:01", "requeued", []),
        ("Restarts=0 RunTime=1-00:00:03", "time limit", []),
    ],
)
def test_a_job_that_is_ended_before_it_begins_says_why(
    facts: str, reason: str, calls: list[str], tmp_path: Path
) -> None:
    """What preemption has cancelled requeues itself. Slurm does that for all else that is to go on."""
    job = f"JobId=7 JobState=COMPLETING {facts} TimeLimit=1-00:00:00 SuspendTime=None"
    ended = executed(tmp_path, "kill -TERM $PPID", JOB=job)
    assert (ended.code, ended.record["reason"], ended.calls) == (143, reason, calls)


def test_a_second_attempt_that_is_cancelled_was_not_requeued(tmp_path: Path) -> None:
    job = "JobState=COMPLETING Restarts=1 RunTime=00:00:01 TimeLimit=00:10:00"
    ended = executed(tmp_path, "kill -TERM $PPID", JOB=job, SLURM_RESTART_COUNT="1")
    assert (ended.record["reason"], ended.calls) == ("cancelled", [])


def test_a_wish_to_stop_is_kept_while_the_environment_loads(tmp_path: Path) -> None:
    ended = executed(tmp_path, 'mkdir -p "$RUN_FOLDER" && echo cancel >"$RUN_FOLDER/STOP"')
    assert (ended.code, ended.record["reason"], ended.calls) == (200, "cancelled", [])


def obeyed(stop: Path) -> None:
    """Leave what an attempt leaves that has ended because of this STOP."""
    folder = stop.parent / "logs" / "1"
    folder.mkdir(parents=True)
    stamp = subprocess.run(
        ["stat", "-c", "%i %y %s", stop], capture_output=True, text=True, check=True
    ).stdout
    (folder / ".obeyed").write_text(stamp)


def test_a_new_wish_in_the_words_of_the_old_one_is_kept(tmp_path: Path) -> None:
    """``jobctl cancel`` renames a whole new file over the old one."""
    stop = tmp_path / "root/runs/r/STOP"
    stop.parent.mkdir(parents=True)
    stop.write_text("cancel\n")
    obeyed(stop)
    again = 'echo cancel >"$RUN_FOLDER/new" && mv "$RUN_FOLDER/new" "$RUN_FOLDER/STOP"'
    assert executed(tmp_path, again).record["reason"] == "cancelled"


def test_a_wish_that_an_earlier_attempt_has_fulfilled_is_forgotten(tmp_path: Path) -> None:
    stop = tmp_path / "root/runs/r/STOP"
    stop.parent.mkdir(parents=True)
    stop.write_text("cancel\n")
    obeyed(stop)
    ended = executed(tmp_path, "true")
    assert (ended.code, ended.record["reason"], ended.calls) == (0, "finished", ["python"])
    assert not os.path.exists(stop)


@pytest.mark.parametrize(("text", "reason"), [("cancel\n", "cancelled"), ("", "stopped")])
def test_a_wish_that_came_while_the_job_waited_is_obeyed(text: str, reason: str, tmp_path: Path) -> None:
    stop = tmp_path / "root/runs/r/STOP"
    stop.parent.mkdir(parents=True)
    stop.write_text(text)
    ended = executed(tmp_path, "true")
    assert (ended.code, ended.record["reason"], "python" in ended.calls) == (200, reason, False)


def test_what_a_killed_attempt_wrote_of_its_own_end_is_no_wish(tmp_path: Path) -> None:
    stop = tmp_path / "root/runs/r/STOP"
    stop.parent.mkdir(parents=True)
    stop.write_text("time limit\nlauncher received SIGTERM\n")
    ended = executed(tmp_path, "true")
    assert (ended.code, ended.record["reason"], ended.calls) == (0, "finished", ["python"])


PREEMPTED = (
    "JobState=COMPLETING Restarts=0 RunTime=00:00:01 TimeLimit=10:00:00 PreemptTime=2026-01-01T00:00:00"
)
SCRIPT = r"""$(sed 's/.*"pid": \([0-9]*\).*/\1/' "$RUN_DIR/attempts/1.json")"""
TOLD_TO_END = f"kill -TERM {SCRIPT}; trap '' TERM"
UNTIL_REQUEUED = f"{TOLD_TO_END}; timeout 20 sh -c 'until grep -q requeue \"$CALLS\"; do sleep 0.1; done'"


@pytest.mark.parametrize(
    ("payload", "code", "reason", "calls"),
    [
        (f"{UNTIL_REQUEUED}; exit 1", 1, "preempted", ["python", "requeue"]),
        (f"{UNTIL_REQUEUED}; kill -KILL {SCRIPT}", -9, "preempted", ["python", "requeue"]),
        (f"{TOLD_TO_END}; exit 200", 200, "preempted", ["python", "requeue"]),
        (
            f'{UNTIL_REQUEUED}; echo cancel >"$STOP"; exit 200',
            200,
            "cancelled",
            ["python", "requeue", "scancel"],
        ),
    ],
)
def test_a_preempted_job_requeues_itself_before_slurm_kills_it(
    payload: str, code: int, reason: str, calls: list[str], tmp_path: Path
) -> None:
    """Where preemption cancels: a payload that saves until Slurm kills all, the script as well, or that is quick."""
    ended = executed(
        tmp_path, "true", JOB=PREEMPTED, WHILE_RUNNING=payload, STOP=str(tmp_path / "root/runs/r/STOP")
    )
    assert (ended.code, ended.record["reason"], ended.calls) == (code, reason, calls)


@pytest.mark.parametrize(
    "facts", ["Restarts=0 PreemptTime=None", "Restarts=1 PreemptTime=2026-01-01T00:00:00"]
)
def test_a_job_that_slurm_ends_otherwise_leaves_the_queue_alone(facts: str, tmp_path: Path) -> None:
    job = f"JobId=7 JobState=COMPLETING RunTime=00:00:01 TimeLimit=1-00:00:00 {facts} "
    ended = executed(tmp_path, "true", JOB=job, WHILE_RUNNING=f"{TOLD_TO_END}; sleep 3; exit 1")
    assert ended.calls == ["python"]

"""The docker target's verbs on real engines, with an image that is a shell."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from jobctl.jobs.core.errors import UserError
from jobctl.jobs.runs import store as runs
from jobctl.jobs.runs.store import Status
from jobctl.jobs.spec.job_spec import JobSpec
from jobctl.jobs.submission import resume, submit
from jobctl.jobs.targets.registry import load_target
from tests.clusters import BUSY
from tests.clusters.containers import Engine

Job = Callable[..., JobSpec]
DOCKER = load_target("docker")


def status_of(root: Path, name: str = "r") -> Status:
    return DOCKER.statuses([runs.read(root, name)])[0]


def ended(root: Path, name: str = "r", seconds: float = 60) -> Status:
    deadline = time.monotonic() + BUSY * seconds
    while (status := status_of(root, name)).state not in runs.ENDED:
        assert time.monotonic() < deadline, f"still {status.state}"
        time.sleep(0.05)
    return status


def logs(root: Path) -> list[str]:
    return list(DOCKER.logs(runs.read(root, "r"), rank=None, attempt=None, follow=False))


def containers_of(engine: Engine, root: Path) -> str:
    """Ids of the containers of the run, whatever their state."""
    return engine.run("ps", "--all", "--quiet", "--filter", f"label=jobctl.run={root}/runs/r")


def wait_for_log(root: Path, text: str) -> None:
    deadline = time.monotonic() + BUSY * 60
    while True:
        try:
            if text in logs(root):
                return
        except UserError:
            pass  # there is no log yet
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(("code", "state"), [(0, "finished"), (200, "stopped"), (2, "failed")])
def test_the_exit_code_of_the_container_is_the_runs(
    engine: Engine, root: Path, job: Job, code: int, state: str
) -> None:
    _, job_id = submit(job(f"echo hello; exit {code}"))
    status = ended(root)
    assert (status.state, status.exit_code, status.job_id) == (state, code, job_id)
    assert logs(root) == ["hello"]
    assert job_id.startswith(f"{engine.name}:jobctl-r-")
    assert not containers_of(engine, root)


def test_the_container_sees_the_root_as_workspace_and_writes_as_the_caller(
    engine: Engine, root: Path, job: Job
) -> None:
    submit(job('echo "$RUN_DIR $JOBCTL_ROOT $PWD $(id -u) $ATTEMPT"; echo made >"$RUN_DIR/made"'))
    assert ended(root).state == "finished"
    assert logs(root) == [f"/workspace/runs/r /workspace /workspace {os.getuid()} 1"]
    assert (root / "runs/r/made").stat().st_uid == os.getuid()


def test_memory_to_share_is_the_hardwares_and_there_is_no_network(
    engine: Engine, root: Path, job: Job
) -> None:
    submit(job("df -m /dev/shm | tail -n 1 | awk '{print $2}'; ls /sys/class/net"))
    assert ended(root).state == "finished"
    assert logs(root) == ["1024", "lo"]


def test_values_come_through_as_data(engine: Engine, root: Path, job: Job) -> None:
    odd = "a b'c\"$(touch never);d"
    submit(job('printf "%s\\n" "$ODD"', sets=(f"env.ODD={odd}",)))
    assert ended(root).state == "finished"
    assert logs(root) == [odd]


def test_secrets_come_from_the_submitter_and_stay_out_of_the_run(
    engine: Engine, root: Path, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_TOKEN", "sesame")
    run, _ = submit(
        job('[ "$TEST_TOKEN" = sesame ] && [ -z "${UNSET+x}" ]', sets=("pass_env=[TEST_TOKEN, UNSET]",))
    )
    assert ended(root).state == "finished"
    assert not [file for file in run.path.rglob("*") if file.is_file() and "sesame" in file.read_text()]


def test_cancel_lets_the_job_end_itself_and_resume_goes_on(engine: Engine, root: Path, job: Job) -> None:
    submit(
        job(
            '[ "$ATTEMPT" = 1 ] || exit 0; trap "echo asked; exit 200" TERM; echo ready; while :; do sleep 0.1; done'
        )
    )
    wait_for_log(root, "ready")
    assert status_of(root).state == "running"
    DOCKER.cancel(runs.read(root, "r"))
    assert ended(root).state == "cancelled"
    assert logs(root) == ["ready", "asked"]
    resume(root, "r")
    assert ended(root).state == "finished"
    assert status_of(root).attempt == 2


def test_a_cancelled_job_has_its_time_to_checkpoint(engine: Engine, root: Path, job: Job) -> None:
    """Docker's client would leave at the third signal, and the container would go on without a script."""
    submit(job('trap "sleep 6; echo saved; exit 200" TERM; echo ready; while :; do sleep 0.1; done'))
    wait_for_log(root, "ready")
    DOCKER.cancel(runs.read(root, "r"))
    status = ended(root)
    assert (status.state, status.exit_code) == ("cancelled", 200)
    assert logs(root) == ["ready", "saved"]


def test_a_job_that_does_not_listen_is_killed_after_its_grace(engine: Engine, root: Path, job: Job) -> None:
    submit(job('trap "" TERM; echo ready; while :; do sleep 0.1; done', sets=("stop_grace_seconds=1",)))
    wait_for_log(root, "ready")
    assert containers_of(engine, root)
    DOCKER.cancel(runs.read(root, "r"))
    assert ended(root).exit_code == 137
    assert not containers_of(engine, root)


def test_a_signal_to_the_script_alone_reaches_the_job(engine: Engine, root: Path, job: Job) -> None:
    submit(job('trap "sleep 2; exit 200" TERM; echo ready; while :; do sleep 0.1; done'))
    wait_for_log(root, "ready")
    for _ in range(4):
        os.killpg(runs.read(root, "r").attempts[0].pid, signal.SIGINT)
        time.sleep(0.2)
    assert ended(root).exit_code == 200


def test_the_engines_own_stop_reaches_the_job(engine: Engine, root: Path, job: Job) -> None:
    _, job_id = submit(job('trap "echo asked; exit 200" TERM; echo ready; while :; do sleep 0.1; done'))
    wait_for_log(root, "ready")
    engine.run("stop", job_id.partition(":")[2])
    status = ended(root)
    assert (status.state, status.exit_code) == ("stopped", 200)


def test_a_container_that_outlives_its_script_is_running_and_can_be_cancelled(
    engine: Engine, root: Path, job: Job
) -> None:
    submit(job('trap "exit 200" TERM; echo ready; while :; do sleep 0.1; done'))
    wait_for_log(root, "ready")
    attempt = runs.read(root, "r").attempts[0]
    os.killpg(attempt.pid, signal.SIGKILL)
    deadline = time.monotonic() + BUSY * 20
    while "script has ended" not in status_of(root).detail:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    with pytest.raises(UserError, match="running"):
        resume(root, "r")
    DOCKER.cancel(runs.read(root, "r"))
    assert ended(root).state == "lost"


def test_an_image_that_is_not_there_is_named_with_the_command_that_makes_it(
    engine: Engine, root: Path, job: Job
) -> None:
    with pytest.raises(
        UserError, match=r"has no image jobctl:0\.0\.0-cpu \(.*\); build it with: make image VARIANT=cpu"
    ):
        submit(job("exit 0", named={}))
    assert not (root / "runs/r").exists()


def test_an_evaluation_beside_a_live_training_is_a_job_of_its_own(
    engine: Engine, root: Path, job: Job
) -> None:
    score = "trap 'exit 143' TERM; echo scoring; while :; do sleep 0.1; done"
    train = 'until [ -e "$RUN_DIR/STOP" ]; do sleep 0.1; done; exit 200'
    body = f'case "$*" in *eval_only=True*) {score} ;; *) {train} ;; esac'
    submit(job(body))
    submit(job(body, stage="eval"))
    deadline = time.monotonic() + 60
    while "scoring" not in "".join(path.read_text() for path in root.glob("runs/r/logs/*/batch.log")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    DOCKER.cancel(runs.read(root, "r:eval"))
    assert ended(root, "r:eval").state == "cancelled"
    assert (status_of(root).state, (root / "runs/r/STOP").exists()) == ("running", False)
    runs.request_stop(root / "runs/r", "cancel")
    assert ended(root).state == "cancelled"

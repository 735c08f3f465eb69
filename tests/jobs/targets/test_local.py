"""The local target on this machine, for real: a job is started, watched, stopped and resumed."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from jobctl.jobs.core import layout
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.runs import store as runs
from jobctl.jobs.runs.store import Status
from jobctl.jobs.spec.job_spec import JobSpec
from jobctl.jobs.submission import submit
from jobctl.jobs.targets import local
from jobctl.jobs.targets.registry import load_target
from tests.clusters import BUSY

Job = Callable[..., JobSpec]
LOCAL = load_target("local")


def ended(root: Path, name: str, seconds: float = 30) -> Status:
    deadline = time.monotonic() + BUSY * seconds
    while time.monotonic() < deadline:
        (status,) = LOCAL.statuses([runs.read(root, name)])
        if status.state in runs.ENDED:
            return status
        time.sleep(0.02)
    raise AssertionError(f"{name} is still {status.state}")


def logs(root: Path, name: str) -> list[str]:
    return list(LOCAL.logs(runs.read(root, name), rank=None, attempt=None, follow=False))


@pytest.mark.parametrize(("code", "state"), [(0, "finished"), (200, "stopped"), (2, "failed"), (1, "failed")])
def test_the_exit_code_of_the_payload_is_the_runs(root: Path, job: Job, code: int, state: str) -> None:
    run, job_id = submit(job(f"echo hello; exit {code}"))
    status = ended(root, run.name)
    assert (status.state, status.exit_code, status.job_id) == (state, code, job_id)
    assert logs(root, "r") == ["hello"]
    assert status.end >= status.start


def test_following_a_log_ends_with_the_run(root: Path, job: Job) -> None:
    submit(job("for i in 1 2 3; do echo $i; sleep 0.2; done"))
    assert list(LOCAL.logs(runs.read(root, "r"), rank=None, attempt=None, follow=True)) == ["1", "2", "3"]


def test_cancel_stops_every_process_of_the_job(root: Path, job: Job) -> None:
    submit(job("trap 'exit 200' TERM; sleep 60 & echo $$; echo $!; wait"))
    while len(logs_so_far(root)) < 2:
        time.sleep(0.02)
    LOCAL.cancel(runs.read(root, "r"))
    assert ended(root, "r").state == "cancelled"
    deadline = time.monotonic() + BUSY * 10
    while any(alive(pid) for pid in logs_so_far(root)):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_job_that_is_stopped_is_cancelled_at_once(root: Path, job: Job) -> None:
    """A stopped process does not hear SIGTERM, and the cancel took a minute."""
    _, pid = submit(job("trap 'exit 200' TERM; while :; do sleep 0.05; done"))
    os.killpg(int(pid), signal.SIGSTOP)
    started = time.monotonic()
    LOCAL.cancel(runs.read(root, "r"))
    assert time.monotonic() - started < local.KILL_SECONDS / 2
    assert ended(root, "r").state == "cancelled"


def test_a_job_that_has_to_be_killed_is_recorded_as_cancelled(
    root: Path, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shell that writes the record is killed as well, and the run was called lost."""
    monkeypatch.setattr(local, "KILL_SECONDS", 0)
    submit(job("trap '' TERM; while :; do sleep 0.05; done"))
    LOCAL.cancel(runs.read(root, "r"))
    status = ended(root, "r")
    assert (status.state, status.exit_code) == ("cancelled", 137)
    assert status.end


def alive(pid: str) -> bool:
    """Whether the process still runs; one that is dead but not yet collected by its parent does not."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


def logs_so_far(root: Path) -> list[str]:
    try:
        return logs(root, "r")
    except UserError:
        return []


def test_a_graceful_cancel_is_a_stop_file_that_the_payload_sees(root: Path, job: Job) -> None:
    submit(job('until [ -e "$RUN_DIR/STOP" ]; do sleep 0.02; done; exit 200'))
    runs.request_stop(root / "runs/r", "cancel")
    assert ended(root, "r").state == "cancelled"


def test_a_stop_file_of_an_earlier_attempt_does_not_stop_the_next(root: Path, job: Job) -> None:
    submit(job('[ ! -e "$RUN_DIR/STOP" ] || exit 3; touch "$RUN_DIR/STOP"; exit 200'))
    assert ended(root, "r").state == "stopped"
    LOCAL.submit(runs.read(root, "r"), root / "runs/r/script")
    status = ended(root, "r")
    assert (status.attempt, status.exit_code) == (2, 200)


def piped(root: Path, spec: JobSpec) -> subprocess.CompletedProcess[str]:
    """Run a rendered script as ``jobctl render | bash`` does."""
    return subprocess.run(
        ["bash"], input=LOCAL.render(spec), capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize("part", ["runs/r", "runs/r/logs", "runs/r/attempts", "runs/r/checkpoints"])
def test_a_piped_script_does_not_work_in_a_directory_that_leads_elsewhere(
    root: Path, job: Job, tmp_path: Path, part: str
) -> None:
    (tmp_path / "home").mkdir()
    (root / part).parent.mkdir(parents=True)
    (root / part).symlink_to(tmp_path / "home")
    done = piped(root, job('touch "$RUN_DIR/worked"'))
    assert (done.returncode, "is a symbolic link" in done.stderr) == (2, True)
    assert list((tmp_path / "home").iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to other users, which root alone may")
def test_a_piped_script_does_not_work_in_a_run_that_someone_else_made(root: Path, job: Job) -> None:
    run = root / "runs/r"
    (run / "logs").mkdir(parents=True)
    os.chown(run, 1, 1)
    spec = job('touch "$RUN_DIR/worked"')
    done = piped(root, spec)
    assert (done.returncode, "runs/r belongs to daemon (1)" in done.stderr) == (2, True)
    assert [path.name for path in run.iterdir()] == ["logs"]
    done = piped(root, msgspec.structs.replace(spec, trusted=("daemon",)))
    assert (done.returncode, (run / "worked").exists()) == (0, True)


def test_a_job_that_was_killed_without_a_word_is_lost_and_says_how_to_go_on(root: Path, job: Job) -> None:
    _, pid = submit(job("sleep 60"))
    os.killpg(int(pid), signal.SIGKILL)
    status = ended(root, "r")
    assert status.state == "lost"
    assert "jobctl resume r" in status.detail


def test_what_another_host_left_behind_is_lost_when_its_heart_has_stopped(root: Path, job: Job) -> None:
    """Else nobody could go on with it from here: that host cannot be asked, and may be gone for good."""
    run, pid = submit(job("sleep 60"))
    os.killpg(int(pid), signal.SIGKILL)
    record = run.path / "attempts/1.json"
    record.write_text(record.read_text().replace(os.uname().nodename, "elsewhere"))
    beat = layout.heartbeat_file(run.path)
    beat.touch()
    assert LOCAL.statuses([runs.read(root, "r")])[0].state == "running"
    with pytest.raises(UserError, match="is a process on elsewhere"):
        LOCAL.cancel(runs.read(root, "r"))
    os.utime(beat, (time.time() - 700,) * 2)
    (status,) = LOCAL.statuses([runs.read(root, "r")])
    assert (status.state, "the run on elsewhere has not reported" in status.detail) == ("lost", True)


def test_an_attempt_that_was_refused_beside_a_live_one_does_not_speak_for_the_run(
    root: Path, job: Job
) -> None:
    run, pid = submit(
        job('[ "$ATTEMPT" != 2 ] || exit 1; trap "exit 200" TERM; while :; do sleep 0.05; done')
    )
    LOCAL.submit(run, run.path / "script")  # as nobody can by jobctl resume
    while layout.attempt_file(run.path, 2).read_text().count("null"):
        time.sleep(0.02)
    (status,) = LOCAL.statuses([runs.read(root, "r")])
    assert (status.state, status.attempt, status.job_id) == ("running", 1, pid)
    LOCAL.cancel(runs.read(root, "r"))
    assert not alive(pid)


def test_a_run_with_other_settings_under_the_same_name_is_refused_by_the_script(root: Path, job: Job) -> None:
    import subprocess

    submit(job("true"))
    ended(root, "r")
    script = LOCAL.render(job("true", trainer_flags=("--seed=2",)))
    answer = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert answer.returncode == 2
    assert "was made with other settings; choose another name with --run" in answer.stderr


def test_a_piped_script_makes_its_own_run(root: Path, job: Job) -> None:
    import subprocess

    answer = subprocess.run(
        ["bash"],
        input=LOCAL.render(job("echo trained", run=None)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (answer.returncode, answer.stdout) == (0, "trained\n")
    (run,) = runs.read_all(root)
    assert run.name.startswith("qwen3_smoke-train-")
    assert runs.recorded_status(run).state == "finished"


def test_more_than_one_node_is_refused(job: Job) -> None:
    with pytest.raises(UserError, match="the local target is one machine"):
        LOCAL.render(job("true", named={"nodes": 2}))

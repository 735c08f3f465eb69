"""What the docker target renders, without an engine."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from jobctl.jobs.core import layout
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.runs import store
from jobctl.jobs.runs.store import Run
from jobctl.jobs.spec.resolution import Choices, resolve
from jobctl.jobs.targets.registry import load_target

DOCKER = load_target("docker")


def rendered(root: str = "/shared", **choices: object) -> str:
    options = {"model": "qwen3_smoke", "target": "docker", **choices}
    return DOCKER.render(resolve(Choices(**options), version="0.0.0", root=root).spec)  # type: ignore[arg-type]


def test_shared_memory_and_time_to_stop_come_from_the_spec() -> None:
    text = rendered(model="qwen3_1.8b", hardware="b200", sets=("stop_grace_seconds=77",))
    assert "  --shm-size=256g\n" in text
    assert "  --stop-timeout=77\n" in text


@pytest.mark.parametrize(
    ("choices", "network"),
    [
        ({}, False),
        ({"kind": "prep", "model": ""}, True),
        ({"sets": ("pass_env=[WANDB_API_KEY]",)}, True),
        ({"sets": ("env.MLFLOW_TRACKING_URI=http://logs",)}, True),
    ],
)
def test_only_a_job_that_fetches_or_reports_gets_a_network(choices: dict[str, object], network: bool) -> None:
    assert ("--network=none" in rendered(**choices)) is not network


def test_secrets_are_passed_by_name() -> None:
    assert "  --env=HF_TOKEN\n" in rendered(sets=("pass_env=[HF_TOKEN]",))


def test_the_source_tree_that_a_site_names_is_mounted_and_found_first() -> None:
    text = rendered(sets=("project_dir=/home/me/jobctl",))
    assert "  --volume=/home/me/jobctl:/home/me/jobctl:ro\n" in text
    assert "  --env=PYTHONPATH=/home/me/jobctl/src\n" in text


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"model": "qwen3_1.8b", "named": {"nodes": 2}}, "one machine"),
        ({"root": "/a", "sets": ("container.mounts=[/b:/a/]",)}, "is already mounted at /a"),
        ({"root": "/a:b"}, "cannot mount a path with ':'"),
    ],
)
def test_what_one_machine_cannot_do_is_refused(choices: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        rendered(**choices)  # type: ignore[arg-type]


def fake_engines(folder: Path, **answers: str) -> dict[str, str]:
    """An environment whose PATH has engines that run these scripts."""
    folder.mkdir()
    for name, script in answers.items():
        (folder / name).write_text(f"#!/bin/bash\n{script}\n")
        (folder / name).chmod(0o755)
    return {**os.environ, "PATH": f"{folder}:/usr/bin:/bin", "JOBCTL_ENGINE": ""}


ECHO = '[ "$1" != run ] || printf "%s\\n" "{0}" "$@"; [ "$1" != --version ] || echo "{0} version 5"'


def run_script(text: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash"], input=text, env=env, text=True, capture_output=True, check=False)


def test_docker_is_taken_where_both_answer_and_podman_where_docker_does_not(tmp_path: Path) -> None:
    text = rendered(root=str(tmp_path / "root"))
    both = fake_engines(tmp_path / "both", docker=ECHO.format("docker"), podman=ECHO.format("podman"))
    assert run_script(text, both).stdout.startswith("docker\nrun\n")
    one = fake_engines(tmp_path / "one", docker="exit 1", podman=ECHO.format("podman"))
    assert run_script(text, one).stdout.startswith("podman\nrun\n")
    asked = run_script(text, {**both, "JOBCTL_ENGINE": "podman"})
    assert asked.stdout.startswith("podman\nrun\n")


def test_no_engine_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    env = fake_engines(
        tmp_path / "none", docker="echo no access >&2; exit 1", podman="echo no storage >&2; exit 1"
    )
    done = run_script(rendered(root=str(tmp_path / "root")), env)
    assert done.returncode == 2
    assert "neither docker nor podman answers" in done.stderr
    assert "(no access; no storage)" in done.stderr
    assert not (tmp_path / "root").exists()


def test_the_callers_id_is_the_containers_but_for_rootless_docker(tmp_path: Path) -> None:
    text = rendered(root=str(tmp_path / "root"))
    mine = f"--user={os.getuid()}:{os.getgid()}"
    plain = fake_engines(tmp_path / "plain", docker=ECHO.format("docker"))
    assert mine in run_script(text, plain).stdout.splitlines()
    rootless = ECHO.format("docker") + '; [ "$1" != info ] || echo " rootless"'
    assert (
        "--user=0:0"
        in run_script(text, fake_engines(tmp_path / "rootless", docker=rootless)).stdout.splitlines()
    )


GPU_JOB = {"model": "qwen3_1.8b", "hardware": "h100", "stage": "smoke"}


def test_podman_without_a_cdi_file_is_an_error_before_anything_is_made(tmp_path: Path) -> None:
    text = rendered(root=str(tmp_path / "root"), **GPU_JOB)
    env = fake_engines(tmp_path / "bin", podman=ECHO.format("podman"))
    folder = tmp_path / "cdi"
    folder.mkdir()
    (folder / "other.yaml").write_text("kind: example.org/card\n")

    done = run_script(text, {**env, "JOBCTL_CDI_DIRS": str(folder)})
    assert done.returncode == 2
    assert (
        f"podman has no CDI file for NVIDIA's GPUs in {folder}; make it with: sudo nvidia-ctk cdi generate"
        in done.stderr
    )
    assert not (tmp_path / "root").exists()


@pytest.mark.parametrize("file", ["nvidia.yaml", "nvidia.json"])
def test_podman_with_a_cdi_file_gets_the_gpus(tmp_path: Path, file: str) -> None:
    text = rendered(root=str(tmp_path / "root"), **GPU_JOB)
    env = fake_engines(tmp_path / "bin", podman=ECHO.format("podman"))
    folder = tmp_path / "cdi"
    folder.mkdir()
    (folder / file).write_text('kind: "nvidia.com/gpu"\n')

    done = run_script(text, {**env, "JOBCTL_CDI_DIRS": f"{tmp_path}/absent {folder}"})
    assert "--device=nvidia.com/gpu=all" in done.stdout.splitlines()


def test_docker_and_a_job_without_gpus_need_no_cdi_file(tmp_path: Path) -> None:
    nowhere = {"JOBCTL_CDI_DIRS": str(tmp_path / "absent")}
    docker = fake_engines(tmp_path / "docker", docker=ECHO.format("docker"))
    text = rendered(root=str(tmp_path / "root"), **GPU_JOB)
    assert "--gpus=all" in run_script(text, {**docker, **nowhere}).stdout.splitlines()
    podman = fake_engines(tmp_path / "podman", podman=ECHO.format("podman"))
    assert (
        "run" in run_script(rendered(root=str(tmp_path / "cpu")), {**podman, **nowhere}).stdout.splitlines()
    )


@pytest.mark.parametrize(
    ("info", "file", "option"),
    [
        (
            "Runtimes: runc\n CDI spec directories:\n  cdi: nvidia.com/gpu=0",
            "nvidia.yaml",
            "--device=nvidia.com/gpu=all",
        ),
        ("CDI spec directories:\n  /etc/cdi", "", "--gpus=all"),
        ("Runtimes: runc nvidia\n CDI spec directories:\n  /etc/cdi", "nvidia.yaml", "--gpus=all"),
        ("Runtimes: runc", "nvidia.yaml", "--gpus=all"),
    ],
)
def test_docker_takes_gpus_by_cdi_where_it_has_nothing_else(
    tmp_path: Path, info: str, file: str, option: str
) -> None:
    text = rendered(root=str(tmp_path / "root"), **GPU_JOB)
    docker = ECHO.format("docker") + f"; [ \"$1\" != info ] || echo '{info}'"
    env = fake_engines(tmp_path / "bin", docker=docker)
    if file:
        (tmp_path / file).write_text('kind: "nvidia.com/gpu"\n')
    said = run_script(text, {**env, "JOBCTL_CDI_DIRS": str(tmp_path)}).stdout.splitlines()
    assert option in said


@pytest.mark.parametrize("fails", ["--version", "info"])
def test_an_engine_that_does_not_say_what_it_is_is_not_taken_for_another(tmp_path: Path, fails: str) -> None:
    silent = f'[ "$1" != {fails} ] || {{ echo "no daemon"; exit 1; }}; {ECHO.format("docker")}'
    done = run_script(rendered(root=str(tmp_path / "root")), fake_engines(tmp_path / "bin", docker=silent))
    assert done.returncode == 2
    assert f"docker {fails} failed with exit code 1" in done.stderr
    assert "--user" not in done.stdout


def test_an_image_that_cannot_be_looked_at_is_refused_with_the_engines_words(tmp_path: Path) -> None:
    refuses = f'[ "$1" != image ] || {{ echo "disk is gone" >&2; exit 1; }}; {ECHO.format("docker")}'
    done = run_script(rendered(root=str(tmp_path / "root")), fake_engines(tmp_path / "bin", docker=refuses))
    assert (done.returncode, "(disk is gone); build it with: make image" in done.stderr) == (2, True)


def lost_run(root: Path, monkeypatch: pytest.MonkeyPatch, **engines: str) -> Run:
    """A run whose script is gone without a word; its container may still be there."""
    for name, value in fake_engines(root.parent / "bin", **engines).items():
        monkeypatch.setenv(name, value)
    spec = resolve(Choices(model="qwen3_smoke", target="docker", run="r"), version="0", root=str(root)).spec
    path = store.claim(root, "r")
    store.write_submission(path, spec, "")
    facts = {
        "attempt": 1, "job_id": "docker:jobctl-r-1", "target": "docker", "host": os.uname().nodename, "nodes": "n",
        "pid": 2**22 + 1, "start": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    layout.attempt_file(path, 1).write_text(json.dumps(facts))
    return store.read(root, "r")


@pytest.mark.parametrize(
    ("engine", "state"),
    [("exit 0", "lost"), ("echo 0123", "running"), ("echo no daemon >&2; exit 1", "unknown")],
)
def test_a_container_that_cannot_be_asked_for_is_not_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str, state: str
) -> None:
    run = lost_run(tmp_path / "root", monkeypatch, docker=engine)
    (status,) = DOCKER.statuses([run])
    assert status.state == state
    assert state != "unknown" or status.detail == "docker ps failed with exit code 1: no daemon"


def test_a_container_that_cannot_be_asked_for_is_not_said_to_be_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = lost_run(tmp_path / "root", monkeypatch, docker="echo no daemon >&2; exit 1")
    with pytest.raises(UserError, match="docker ps failed with exit code 1: no daemon"):
        DOCKER.cancel(run)


def test_a_container_that_ends_while_it_is_stopped_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = '[ "$1" != stop ] || { touch "$0.gone"; exit 1; }; [ -e "$0.gone" ] || echo 0123'
    run = lost_run(tmp_path / "root", monkeypatch, docker=ends)
    DOCKER.cancel(run)
    assert (run.path / "STOP").exists()


@pytest.mark.parametrize(
    ("engine", "gpus"), [("docker", "--gpus=all"), ("podman", "--device=nvidia.com/gpu=all")]
)
def test_gpus_are_passed_only_where_the_job_has_some(engine: str, gpus: str, tmp_path: Path) -> None:
    env = fake_engines(tmp_path / "engines", **{"docker": "exit 1", engine: ECHO.format(engine)})
    (tmp_path / "nvidia.yaml").write_text("kind: nvidia.com/gpu\n")
    env["JOBCTL_CDI_DIRS"] = str(tmp_path)
    without = run_script(rendered(root=str(tmp_path / "cpu")), env).stdout
    text = rendered(root=str(tmp_path / "gpu"), model="qwen3_1.8b", hardware="h100")
    assert gpus not in without.splitlines()
    assert gpus in run_script(text, env).stdout.splitlines()


def test_only_a_job_with_gpus_asks_for_limits_that_a_caller_may_not_have(tmp_path: Path) -> None:
    raisable = "ulimit() { :; }; "  # as for a caller who may raise the limits
    env = fake_engines(tmp_path / "engines", docker=ECHO.format("docker"))
    without = run_script(raisable + rendered(root=str(tmp_path / "cpu")), env).stdout
    text = rendered(root=str(tmp_path / "gpu"), model="qwen3_1.8b", hardware="h100")
    assert "memlock" not in without
    assert "--ulimit=memlock=-1:-1" in run_script(raisable + text, env).stdout.splitlines()

"""The cpu image as its users use it: built by the documented command, run without a network, stopped and resumed."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from jobs import runs
from jobs.runs import Status
from jobs.spec import Choices, JobSpec, resolve
from jobs.submission import resume, submit
from jobs.targets import target
from tests.clusters import containers
from tests.clusters.containers import Engine

DOCKER = target("docker")


def spec_of(root: Path, image: str, **choices: object) -> JobSpec:
    options = {"target": "docker", "named": {"image": image}, **choices}
    return resolve(Choices(**options), version="0.0.0", root=str(root)).spec  # type: ignore[arg-type]


def ended(root: Path, name: str, seconds: float = 180) -> Status:
    deadline = time.monotonic() + seconds
    while True:
        (status,) = DOCKER.statuses([runs.read(root, name)])
        if status.state in runs.ENDED:
            return status
        assert time.monotonic() < deadline, f"still {status.state}"
        time.sleep(0.1)


def run_image(engine: Engine, image: str, *words: str, options: tuple[str, ...] = ()) -> str:
    quiet = ("--rm", "--network=none", *(("--no-healthcheck",) if engine.name == "podman" else ()))
    return engine.run("run", *quiet, *options, image, *words, timeout=240)


def test_alone_it_says_what_it_can_do(podman: Engine, built_image: str) -> None:
    said = run_image(podman, built_image)
    for verb in ("smoke", "preflight", "prep", "train", "eval", "export", "jobctl", "bash"):
        assert f"IMAGE {verb}" in said
    assert said.startswith("jobctl cpu (")


def test_smoke_trains_without_a_network_or_a_volume(podman: Engine, built_image: str) -> None:
    started = time.monotonic()
    said = run_image(podman, built_image, "smoke", options=("--user=4321:4321",))
    assert "step 10/10" in said
    assert "finished at step 10 of 10" in said
    print(f"smoke took {time.monotonic() - started:.0f} s")


def test_preflight_names_what_is_there_and_what_is_wrong(podman: Engine, built_image: str) -> None:
    said = run_image(podman, built_image, "preflight")
    assert "torch 2.13.0+cpu" in said
    assert "GPUs      none" in said
    with pytest.raises(RuntimeError, match="problem: uid 4321 cannot write /etc"):
        run_image(podman, built_image, "preflight", options=("--user=4321", "--env=JOBCTL_ROOT=/etc"))


def test_wrong_usage_is_exit_code_2(podman: Engine, built_image: str) -> None:
    with pytest.raises(RuntimeError, match=r"exit 2:.*no such command"):
        run_image(podman, built_image, "trian")
    with pytest.raises(RuntimeError, match=r"exit 2:.*did you mean 'qwen3_smoke'"):
        run_image(podman, built_image, "train", "--model", "qwen3_smok")


def test_nothing_but_what_runs_is_in_it(podman: Engine, built_image: str) -> None:
    looking = """
    for tool in gcc cc g++ make nvcc pip git; do command -v "$tool" || true; done
    find / -xdev -name pip.conf -o -xdev -name ca.crt -o -xdev -path '*/.cache/*' -o -xdev -path '/var/lib/apt/lists/*'
    find /opt/jobctl -name .git -o -name tests -o -name runs -o -name '.env*'
    find / -xdev -perm -4002 -type f
    """
    assert run_image(podman, built_image, "bash", "-c", looking, options=("--user=0",)) == ""


def test_any_uid_has_a_home_a_name_and_a_place_for_runs(podman: Engine, built_image: str) -> None:
    said = run_image(
        podman, built_image, "bash", "-c",
        "touch ~/x /workspace/y && python3 -c 'import getpass; print(getpass.getuser())'; id -u",
        options=("--user=4321:4321",),
    )  # fmt: skip
    assert said == "jobctl\n4321"
    assert run_image(podman, built_image, "id", "-u") == "1000"


def test_its_labels_health_and_stop_signal(podman: Engine, built_image: str) -> None:
    (found,) = json.loads(podman.run("image", "inspect", built_image))
    assert found["Labels"]["org.opencontainers.image.version"]
    revision = found["Labels"]["org.opencontainers.image.revision"]
    assert revision.split("-")[0] == runs.git_revision().split("-")[0]  # type: ignore[union-attr]
    assert found["Config"]["StopSignal"] == "SIGTERM"
    assert found["Config"]["User"] == "1000:1000"
    assert found["Healthcheck"]["Test"] == ["CMD", "/opt/jobctl/docker/entrypoint", "healthy"]
    run_image(podman, built_image, "healthy")


@pytest.fixture(scope="session")
def prepared_root(built_image: str, podman_store: Engine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root whose data set was made by a prep job in the image, through the docker target."""
    root = tmp_path_factory.mktemp("image") / "root"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**podman_store.env, "JOBCTL_ENGINE": "podman"}.items():
            patch.setenv(name, value)
        named = {"image": built_image, "dataset": "sotu", "tokenizer": "gpt2"}
        submit(spec_of(root, built_image, kind="prep", run="prep", named=named))
        status = ended(root, "prep")
    assert status.state == "finished", (root / "runs/prep/logs/1/batch.log").read_text()
    return root


def test_a_prep_job_leaves_a_verified_data_set(prepared_root: Path) -> None:
    meta = json.loads((prepared_root / "datasets/sotu-gpt2/meta.json").read_text())
    assert meta["tokens"] > 2_000_000


def test_docker_stop_checkpoints_and_resume_goes_on(
    podman: Engine, built_image: str, prepared_root: Path
) -> None:
    sets = ("max_iters=80", "batch_size=1", "block_size=32", "log_interval=1", "eval_interval=1000")
    spec = spec_of(prepared_root, built_image, model="qwen3_smoke", run="stopped", sets=sets)
    run, job_id = submit(spec)
    log = run.path / "logs/1/batch.log"
    deadline = time.monotonic() + 120
    while not (log.exists() and "step 2/" in log.read_text()):
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)
    podman.run("stop", job_id.partition(":")[2])
    status = ended(prepared_root, "stopped")
    assert (status.state, status.exit_code) == ("stopped", 200), log.read_text()
    resume(prepared_root, "stopped")
    state = ended(prepared_root, "stopped").state
    second = (run.path / "logs/2/batch.log").read_text()
    assert state == "finished", second
    assert "from scratch" in log.read_text()
    assert "from scratch" not in second


def test_a_source_change_rebuilds_the_last_layer_only(podman: Engine, built_image: str) -> None:
    """The same command again: every step up to the source comes from the cache."""
    before = podman.run("image", "inspect", "--format={{json .RootFS.Layers}}", built_image)
    probe = containers.PROJECT / "docker" / ".rebuild-probe"
    probe.write_text("made by a test of the image\n")
    try:
        again = containers.build_image(podman)
    finally:
        probe.unlink()
    after = podman.run("image", "inspect", "--format={{json .RootFS.Layers}}", again)
    first, second = json.loads(before), json.loads(after)
    assert first[:-1] == second[: len(first) - 1]
    assert first != second
    containers.build_image(podman)

"""The cpu image as its users use it: built by the documented command, run without a network, stopped and resumed."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from jobctl.docker import pin, variants
from jobctl.jobs.runs import store as runs
from jobctl.jobs.runs.revision import git_revision
from jobctl.jobs.runs.store import Status
from jobctl.jobs.spec.job_spec import JobSpec
from jobctl.jobs.spec.patch import ship
from jobctl.jobs.spec.resolution import Choices, resolve
from jobctl.jobs.submission import resume, submit
from jobctl.jobs.targets.registry import load_target
from tests.checkout import checkout, patched
from tests.clusters import containers
from tests.clusters.containers import Engine

DOCKER = load_target("docker")
GREEDY = """
import subprocess, sys
from jobctl.jobs.core import memory_kill

memory = memory_kill.watch()
subprocess.run([sys.executable, "-c", "x = bytearray(2**30); x[::4096] = bytes(2**18)"])
print(memory.report("a smaller image"))
"""
"""A parent whose child takes a gigabyte."""


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
    return engine.run("run", "--rm", "--network=none", *options, image, *words, timeout=240)


def test_alone_it_says_what_it_can_do(podman: Engine, built_image: str) -> None:
    said = run_image(podman, built_image)
    for verb in ("smoke", "preflight", "prep", "train", "eval", "export", "jobctl", "bash"):
        assert f"IMAGE {verb}" in said
    assert said.startswith("jobctl cpu (")


def test_smoke_trains_without_a_network_or_a_volume_as_whoever_on_a_root_that_is_read_only(
    engine: Engine, image: str
) -> None:
    """Docker's containers without a network know no name but localhost, not even their own."""
    options = ("--user=12345:12345", "--read-only", "--tmpfs=/tmp", "--tmpfs=/workspace:mode=1777")
    said = run_image(engine, image, "smoke", options=options)
    assert "step 10/10" in said
    assert "finished at step 10 of 10" in said


def test_preflight_is_the_one_that_clusters_run(engine: Engine, image: str) -> None:
    said = run_image(engine, image, "preflight")
    assert ": no GPU; matrix product" in said
    assert said.endswith("preflight: all is well")
    with pytest.raises(RuntimeError, match=r"(?s)exit 1:.*PROBLEM: the shared volume has 0\.\d+ GiB free"):
        run_image(engine, image, "preflight", options=("--tmpfs=/workspace:mode=1777,size=64m",))


def test_wrong_usage_is_exit_code_2(podman: Engine, built_image: str) -> None:
    with pytest.raises(RuntimeError, match=r"exit 2:.*no such command"):
        run_image(podman, built_image, "trian")
    with pytest.raises(RuntimeError, match=r"exit 2:.*did you mean 'qwen3_smoke'"):
        run_image(podman, built_image, "train", "--model", "qwen3_smok")
    with pytest.raises(RuntimeError, match=r"exit 2:.*run none does not exist"):
        run_image(podman, built_image, "export", "--run", "none")
    with pytest.raises(RuntimeError, match=r"exit 2:.*names no run\s+jobctl submit export RUN"):
        run_image(podman, built_image, "export")


@pytest.mark.parametrize("verb", ["smoke", "preflight"])
def test_who_cannot_write_the_root_is_told_what_to_do(podman: Engine, built_image: str, verb: str) -> None:
    options = ("--user=4321", "--env=JOBCTL_ROOT=/etc")
    with pytest.raises(RuntimeError, match=r"exit 2: jobctl: uid 4321 cannot write /etc; mount .* --user$"):
        run_image(podman, built_image, verb, options=options)


def test_nothing_but_what_runs_is_in_it(podman: Engine, built_image: str) -> None:
    looking = """
    for tool in gcc cc g++ make nvcc pip git; do command -v "$tool" || true; done
    find / -xdev -name pip.conf -o -xdev -name ca.crt -o -xdev -path '*/.cache/*' -o -xdev -path '/var/lib/apt/lists/*'
    find /opt/jobctl -name .git -o -name tests -o -name runs -not -path /opt/jobctl/jobs/runs -o -name '.env*'
    find / -xdev -perm -4002 -type f
    """
    assert run_image(podman, built_image, "bash", "-c", looking, options=("--user=0",)) == ""


def test_any_uid_has_a_home_a_name_and_a_place_for_runs(engine: Engine, image: str) -> None:
    said = run_image(
        engine, image, "bash", "-c",
        "touch ~/x /workspace/y && python3 -c 'import getpass; print(getpass.getuser())'; id -u",
        options=("--user=4321:4321",),
    )  # fmt: skip
    assert said == "jobctl\n4321"
    assert run_image(engine, image, "id", "-u") == "1000"
    looking = 'echo "$HOME"; touch ~/x && python3 -c "import pathlib; print(pathlib.Path.home())"'
    options = ("--user=4321:4321", "--read-only", "--tmpfs=/tmp")
    assert run_image(engine, image, "bash", "-c", looking, options=options) == "/tmp\n/tmp"


@pytest.mark.parametrize("verb", ["smoke", "train", "prep", "eval", "export", "preflight"])
def test_each_job_has_help(podman: Engine, built_image: str, verb: str) -> None:
    assert run_image(podman, built_image, verb, "--help").startswith("Usage: jobctl render")


def test_its_labels_user_and_stop_signal(podman: Engine, built_image: str) -> None:
    (found,) = json.loads(podman.run("image", "inspect", built_image))
    assert found["Labels"]["org.opencontainers.image.version"]
    revision = found["Labels"]["org.opencontainers.image.revision"]
    assert revision.split("-")[0] == str(git_revision()).split("-")[0]
    assert found["Config"]["StopSignal"] == "SIGTERM"
    assert found["Config"]["User"] == "1000:1000"
    assert not found.get("Healthcheck"), "a job is no service, and Podman would want systemd for it"


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


ENDLESS = {"max_iters": 100_000, "batch_size": 1, "block_size": 32, "log_interval": 1, "eval_interval": 1000}


def wait_for(log: Path, text: str) -> None:
    deadline = time.monotonic() + 180
    while not (log.exists() and text in log.read_text()):
        assert time.monotonic() < deadline, log.read_text() if log.exists() else f"no {log}"
        time.sleep(0.05)


def test_docker_stop_checkpoints_and_the_same_container_goes_on(
    engine: Engine, image: str, prepared_root: Path
) -> None:
    """Without jobctl on the host."""
    name = f"stopped-{engine.name}"
    flags = [f"--{key}={value}" for key, value in ENDLESS.items()]
    container = engine.run(
        "run", "--detach", "--network=none", f"--user={os.getuid()}:{os.getgid()}",
        f"--volume={prepared_root}:/workspace", image, "train", "--model=qwen3_smoke", f"--run={name}", "--", *flags,
    )  # fmt: skip
    logs = prepared_root / "runs" / name / "logs"
    try:
        wait_for(logs / "1/batch.log", "step 2/")
        engine.run("stop", "--time=60", container)
        first = (logs / "1/batch.log").read_text()
        assert engine.run("inspect", "--format={{.State.ExitCode}}", container) == "200", first
        assert "from scratch" in first
        engine.run("start", container)
        wait_for(logs / "2/batch.log", "resumed from a checkpoint")
    finally:
        engine.run("rm", "--force", container)


def test_cancel_checkpoints_and_resume_goes_on(engine: Engine, image: str, prepared_root: Path) -> None:
    name = f"cancelled-{engine.name}"
    sets = tuple(f"{key}={value}" for key, value in ENDLESS.items())
    run, _ = submit(spec_of(prepared_root, image, model="qwen3_smoke", run=name, sets=sets))
    log = run.path / "logs/1/batch.log"
    wait_for(log, "step 2/")
    DOCKER.cancel(runs.read(prepared_root, name))
    assert ended(prepared_root, name).state == "cancelled", log.read_text()
    assert (run.path / "checkpoints/LATEST").exists(), log.read_text()
    resume(prepared_root, name)
    wait_for(run.path / "logs/2/batch.log", "resumed from a checkpoint")
    DOCKER.cancel(runs.read(prepared_root, name))
    assert ended(prepared_root, name).state == "cancelled"


def test_a_patched_job_runs_the_tree_in_the_place_of_the_images_code(
    engine: Engine, image: str, prepared_root: Path, tmp_path: Path
) -> None:
    tree = checkout(tmp_path, "print('not the code of the image')\n")
    name = f"patched-{engine.name}"
    spec = spec_of(prepared_root, image, model="qwen3_smoke", run=name)
    run, _ = submit(patched(spec, tree))
    assert ended(prepared_root, name).state == "finished"
    assert (run.path / "logs/1/batch.log").read_text() == "not the code of the image\n"


def test_a_source_change_rebuilds_the_last_layer_only(
    podman: Engine, built_image: str, tmp_path: Path
) -> None:
    """The same command in a changed copy of the tree: every step up to the source comes from the cache."""
    tree = tmp_path / "tree"
    ship(containers.PROJECT, tree)
    shutil.copy(containers.PROJECT / ".dockerignore", tree)
    (tree / "docker/new").write_text("made by a test of the image\n")
    changed = containers.build_image(podman, tree, f"{built_image}-changed")
    first, second = (
        json.loads(podman.run("image", "inspect", "--format={{json .RootFS.Layers}}", image))
        for image in (built_image, changed)
    )
    podman.run("rmi", changed)
    assert first[:-1] == second[: len(first) - 1]
    assert first != second


def test_two_builds_without_cache_give_one_digest(podman: Engine, built_image: str) -> None:
    if os.environ.get("JOBCTL_WHOLE_SUITES") != "1":
        pytest.skip("make test-image builds it twice more, which takes minutes")
    tags = [f"{built_image}-{number}" for number in (1, 2)]
    for tag in tags:
        containers.build_image(podman, tag=tag, options=("--no-cache",))
    digests = [podman.run("image", "inspect", "--format={{.Digest}}", tag) for tag in tags]
    podman.run("rmi", "--force", *tags)
    assert digests[0] == digests[1]


def test_the_image_lists_what_it_holds_with_every_licence(podman: Engine, built_image: str) -> None:
    listed = json.loads(run_image(podman, built_image, "python3", "-m", "jobctl.docker.inventory"))
    assert listed["metadata"]["component"]["name"] == "jobctl-cpu"

    kinds: dict[str, set[str]] = {"pypi": set(), "deb": set()}
    for component in listed["components"]:
        assert component["licenses"], component["name"]
        kinds[component["purl"].partition("/")[0].removeprefix("pkg:")].add(component["name"])
    pinned = {
        package.partition(" ;")[0]
        for name in ("cpu", "no-deps")
        for package in pin.entries((variants.FOLDER / f"{name}.txt").read_text())
    }
    assert pinned <= kinds["pypi"]
    assert {"libc6", "tini", "python3-minimal"} <= kinds["deb"]


def test_a_process_that_is_killed_for_memory_is_named_with_the_limit(
    podman: Engine, built_image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # Podman's monitor leaves a file named oom where it was started
    options = ("--memory=200m", "--memory-swap=200m")
    said = run_image(podman, built_image, "python3", "-c", GREEDY, options=options)
    assert "the kernel killed 1 process of this job for memory: its limit is 0.20 GiB" in said

"""What each container runtime cannot do is refused by name; what it can do, it does."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from jobctl.jobs.core.errors import UserError
from jobctl.jobs.spec.resolution import Choices, resolve
from jobctl.slurm.runtimes import RUNTIMES, is_here, refuse_unfit, split_mount
from jobctl.slurm.script import render
from tests.slurm import container_programs
from tests.slurm.conftest import Submitter
from tests.slurm.test_script import GPU, container_words, spec_of

PAYLOAD = ["bash", "-c", 'echo "$0 $* root=$JOBCTL_ROOT image=$IMAGE token=${HF_TOKEN:-none} $CONTAINER"']


def started(tmp_path: Path, *sets: str, **choices: object) -> str:
    """What the payload prints when the words of a rendered job start it by a stand-in."""
    root = tmp_path / "root"
    root.mkdir(exist_ok=True)
    choice = Choices(model="qwen3_smoke", target="slurm", run="x", sets=sets, **choices)  # type: ignore[arg-type]
    script = render(resolve(choice, version="1", root=str(root)).spec)
    data = script[script.index("CONTAINER_COMMAND=(") : script.index("LAUNCH=(")]
    path = f"{container_programs.install(tmp_path / 'bin')}:{os.environ['PATH']}"
    environment = {"PATH": path, "JOBCTL_ROOT": str(root), "HF_TOKEN": "secret"}
    words = [*PAYLOAD, "a b", "--gpu", "--", "--env", "c"]
    start = ["bash", "-c", f'{data}\n"${{CONTAINER_COMMAND[@]}}" "$@"', "x", *words]
    done = subprocess.run(start, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

    return done.stdout.strip()


@pytest.mark.parametrize(
    ("sets", "hint"),
    [
        (("container.runtime=edf",), "needs an environment definition file"),
        (("container.runtime=edf", "image=./my.toml"), "a job does not start in this folder"),
        (("container.runtime=edf", "image=my.toml"), "a job does not start in this folder"),
        (("container.runtime=edf", "image=my", "mounts=[/a:/a]"), "container.mounts: runtime edf accepts no mounts"),
        (("container.runtime=oci", "image=/b", "mounts=[/a:/a]"), "container.mounts: runtime oci accepts no mounts"),
        (("container.runtime=oci", "image=jobctl:1"), "the folder of a bundle"),
        (("container.runtime=pyxis", 'mounts=["/a,b:/a"]'), "pyxis ends a mount at a comma"),
        (("container.runtime=apptainer", "container.modules=[gpu]"), "runtime apptainer has no modules"),
        (("container.modules=[gpu]",), "runtime none has no modules"),
        (("container.runtime=podman-hpc", "container.modules=[mpi]"), "module mpi starts the container in the back"),
        (("container.runtime=shifter", "image=/i.sqsh"), "needs the name of an image of its gateway"),
        (("container.runtime=pyxis", "mounts=[/a:/shared/root/]"), "is already mounted at /shared/root"),
        (("container.runtime=podman", "mounts=[/a:/d,/b:/d/.]"), "'/a:/d' is already mounted at /d"),
        (("container.runtime=shifter", "mounts=[/a:/etc/b]"), "/etc/b: shifter lets no user mount there"),
        (("container.runtime=shifter", "mounts=[/a:/opt]"), "/opt: shifter lets no user mount there"),
        (("container.runtime=shifter", "mounts=[/a:/a:rec]"), "shifter does not know rec"),
        (("container.runtime=shifter", "mounts=[/a;b:/a]"), "cannot mount a path with ; or ,"),
    ],
)  # fmt: skip
def test_what_a_runtime_cannot_do_is_refused_by_name(sets: tuple[str, ...], hint: str) -> None:
    with pytest.raises(UserError, match=hint) as refused:
        render(spec_of(*sets))
    assert refused.value.code == 2


@pytest.mark.parametrize(
    "sets",
    [
        ("container.runtime=edf", "image=training"),
        ("container.runtime=edf", "image=/home/me/.edf/training.toml"),
        ("container.runtime=shifter", "mounts=[/a:/var/tmp,/b:/opt/data:ro]"),
        ("container.runtime=podman-hpc", "container.modules=[nccl]", "mounts=[/a:/a:ro]"),
    ],
)
def test_what_it_can_do_passes(sets: tuple[str, ...]) -> None:
    refuse_unfit(spec_of(*sets))


def test_a_mount_without_a_target_keeps_its_path() -> None:
    assert split_mount("/a") == ["/a", "/a"]
    assert split_mount("/a:/b:ro") == ["/a", "/b", "ro"]


@pytest.mark.parametrize(
    ("sets", "choices", "expected"),
    [
        (("container_runtime=edf", "image=training"), GPU, "--environment=training env JOBCTL_ROOT=/shared/root"),
        (("container_runtime=podman-hpc", "container.modules=[gpu,nccl]"), GPU, "--no-healthcheck --gpu --nccl --vol"),
        (("container_runtime=podman-hpc", "image=me/i:1"), {}, "--env JOBCTL_INTERFACE -- me/i:1\n"),
        (("container_runtime=shifter", "image=me/i:1", "mounts=[/d:/d:ro]", "container.modules=[gpu,nccl]"), GPU,
         "shifter --image=docker:me/i:1 --volume=/shared/root:/shared/root --volume=/d:/d:ro --module=gpu,nccl"),
        (("container_runtime=shifter", "image=id:0af3"), {}, "shifter --image=id:0af3 "),
    ],
)  # fmt: skip
def test_each_runtime_is_told_in_its_own_way(
    sets: tuple[str, ...], choices: dict[str, object], expected: str
) -> None:
    assert expected in container_words(spec_of(*sets, **choices))


def test_podman_hpc_starts_the_command_with_every_word_of_it(tmp_path: Path) -> None:
    """It takes the first ``--`` of all words away, which is the one between torchrun's options and the trainer's."""
    sets = ("container.runtime=podman-hpc", "image=me/i:1", "pass_env=[HF_TOKEN]")
    said = started(tmp_path, *sets, **GPU)
    assert said == f"a b --gpu -- --env c root={tmp_path}/root image=me/i:1 token=secret yes"


def test_shifter_starts_the_command_with_every_word_of_it(tmp_path: Path) -> None:
    said = started(tmp_path, "container.runtime=shifter", "image=me/i:1", "container.modules=[gpu]", **GPU)
    assert said == f"a b --gpu -- --env c root={tmp_path}/root image=docker:me/i:1 token=secret yes"


@pytest.mark.parametrize("runtime", ["podman-hpc", "shifter"])
def test_two_nodes_of_a_real_slurm_train_in_it(slurm_runs: Submitter, tmp_path: Path, runtime: str) -> None:
    path = f"{container_programs.install(tmp_path / 'bin')}:{slurm_runs.cluster.env['PATH']}"
    sets = {"container.runtime": runtime, "image": "me/i:1", "env.PATH": path, "nodes": 2}
    slurm_runs.submit("inside", 'echo "$NODE $IMAGE $JOBCTL_ROOT $CONTAINER"', **sets)
    slurm_runs.wait("inside", "finished")
    image = "me/i:1" if runtime == "podman-hpc" else "docker:me/i:1"
    log = slurm_runs.log("inside")
    for node in ("n1", "n2"):
        assert any(f"{node} {image} {slurm_runs.root} yes" in line for line in log), log


def test_a_runtime_that_a_node_lacks_is_named(slurm_runs: Submitter) -> None:
    slurm_runs.submit("lacking", "true", **{"container.runtime": "shifter", "image": "me/i:1"})
    slurm_runs.wait("lacking", "failed")
    assert any(
        "shifter does not start on this node; see modules" in line for line in slurm_runs.log("lacking")
    )


@pytest.mark.parametrize(
    ("help_of_srun", "known"),
    [
        ("      --container-image=[USER@][REGISTRY#]IMAGE[:TAG]|PATH\n", {"pyxis"}),
        ("      --environment=PATH    [edf] the environment\n", {"edf"}),
        ("      --container=PATH  --container-mounts=SRC:DST\n", set()),
    ],
)
def test_a_plugin_is_known_by_its_option(help_of_srun: str, known: set[str]) -> None:
    plugins = [runtime for runtime in RUNTIMES if runtime.plugin_option]
    assert {runtime.name for runtime in plugins if is_here(runtime, help_of_srun)} == known


def test_a_program_is_known_by_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", container_programs.install(tmp_path))
    assert [runtime.name for runtime in RUNTIMES if is_here(runtime, "")] == ["podman-hpc", "shifter"]

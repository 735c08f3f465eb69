"""How each container runtime is told to run a command, as words."""

from __future__ import annotations

import pytest

from jobctl.slurm.containers import OF_THE_JOB, container_command, container_options
from jobctl.slurm.runtimes import all_mounts
from tests.slurm.test_script import spec_of

ENVIRONMENT = ("NCCL_DEBUG",)
GPU = {"hardware": "h100"}


def test_the_root_is_mounted_under_its_own_path_and_first() -> None:
    spec = spec_of("container.mounts=[/data:/data:ro]", "container.runtime=apptainer", "image=/i.sif")

    assert all_mounts(spec) == ["/shared/root:/shared/root", "/data:/data:ro"]


def test_a_source_folder_is_mounted_without_the_right_to_write() -> None:
    spec = spec_of("project_dir=/home/me/jobctl", "container.runtime=apptainer", "image=/i.sif")

    assert "/home/me/jobctl:/home/me/jobctl:ro" in all_mounts(spec)


def test_without_a_container_there_is_nothing_to_add() -> None:
    spec = spec_of(**GPU)

    assert container_options(spec, ENVIRONMENT) == []
    assert container_command(spec, ENVIRONMENT) == []


def test_pyxis_and_oci_are_options_of_srun() -> None:
    pyxis = spec_of("container.runtime=pyxis", "image=/i.sqsh", "pass_env=[HF_HOME]", **GPU)
    oci = spec_of("container.runtime=oci", "image=/bundle", **GPU)

    assert "--container-env=JOBCTL_ROOT,NCCL_DEBUG,HF_HOME" in container_options(pyxis, ENVIRONMENT)
    assert container_command(pyxis, ENVIRONMENT) == []
    assert container_options(oci, ENVIRONMENT) == ["--container=/bundle"]


@pytest.mark.parametrize("engine", ["podman", "docker"])
def test_an_engine_hands_over_the_jobs_variables_by_name(engine: str) -> None:
    """A value on a command line is seen by everybody on the node."""
    words = container_command(spec_of(f"container.runtime={engine}", "image=jobctl:1", **GPU), ENVIRONMENT)
    handed = [words[at + 1] for at, word in enumerate(words) if word == "--env"]

    assert words[:3] == [engine, "run", "--rm"]
    assert words[-1] == "jobctl:1"
    assert set(handed) >= {"NCCL_DEBUG", *OF_THE_JOB}
    assert not any("=" in name for name in handed)


@pytest.mark.parametrize(("engine", "option"), [("podman", "--device"), ("docker", "--gpus")])
def test_only_a_job_with_gpus_asks_for_them(engine: str, option: str) -> None:
    sets = (f"container.runtime={engine}", "image=jobctl:1")

    assert option in container_command(spec_of(*sets, **GPU), ENVIRONMENT)
    assert option not in container_command(spec_of(*sets), ENVIRONMENT)


def test_apptainer_sees_gpus_and_binds_each_mount() -> None:
    sets = ("container.runtime=apptainer", "image=/i.sif", "container.mounts=[/data:/data]")
    words = container_command(spec_of(*sets, **GPU), ENVIRONMENT)

    assert words[:3] == ["apptainer", "exec", "--nv"]
    assert [words[at + 1] for at, word in enumerate(words) if word == "--bind"] == [
        "/shared/root:/shared/root",
        "/data:/data",
    ]
    assert "--nv" not in container_command(spec_of(*sets), ENVIRONMENT)

"""How each container runtime is told, from inside a Slurm job, to run a command in our image.

Pyxis, Apptainer and OCI bundles are options of srun or words before the command; the image's mounts are the shared
root and what the site adds.
"""

from __future__ import annotations

from collections.abc import Iterable

from jobctl.jobs.render import Verbatim
from jobctl.jobs.spec.job_spec import JobSpec

OF_THE_JOB = (
    "JOBCTL_ROOT",
    "RUN",
    "RUN_DIR",
    "ATTEMPT",
    "NODE",
    "PET_RDZV_CONF",
    "JOBCTL_INTERFACE",
)
"""Variables that the script sets, whatever the spec."""


def mounts(spec: JobSpec) -> list[str]:
    """``source:target[:ro]`` of all that the job sees of the host, the shared root first."""
    source = spec.site.project_dir
    return [
        f"{spec.site.root}:{spec.site.root}",
        *([f"{source}:{source}:ro"] if source else []),
        *spec.site.container.mounts,
    ]


def container_options(spec: JobSpec, environment: Iterable[str]) -> list[str]:
    """srun's options: those of the pyxis plug-in, or Slurm's own for an OCI bundle. ``environment``: names."""
    match spec.site.container.runtime:
        case "pyxis":
            return [
                f"--container-image={spec.image}",
                f"--container-mounts={','.join(mounts(spec))}",
                "--no-container-mount-home",
                "--container-writable",
                f"--container-env={','.join([*environment, *spec.site.pass_env])}",
            ]
        case "oci":
            return [f"--container={spec.image}"]
        case _:
            return []


def container_command(spec: JobSpec, environment: Iterable[str]) -> list[str]:
    """Words before the command, for runtimes that are programs. ``environment``: names."""
    gpu = spec.resources.gpus_per_node > 0
    match spec.site.container.runtime:
        case "apptainer":
            binds = [word for mount in mounts(spec) for word in ("--bind", mount)]
            return ["apptainer", "exec", *(["--nv"] if gpu else []), *binds, spec.image]
        case "podman" | "docker" as engine:
            volumes = [word for mount in mounts(spec) for word in ("--volume", mount)]
            source = ["PYTHONPATH"] if spec.site.project_dir else []
            names = [*environment, *spec.site.pass_env, *OF_THE_JOB, *source]
            variables = [word for name in names for word in ("--env", name)]
            devices = {"podman": ["--device", "nvidia.com/gpu=all"], "docker": ["--gpus", "all"]}[engine]
            # A node's podman maps the container's root to the job's user, who cannot raise limits; Docker's daemon can.
            own_way = {
                "podman": ["--user=0:0", "--ulimit=host", "--no-healthcheck"],
                "docker": [Verbatim('"--user=$(id -u):$(id -g)"'), *(["--ulimit=memlock=-1"] if gpu else [])],
            }

            return [
                engine,
                "run",
                "--rm",
                "--network=host",
                "--ipc=host",
                *own_way[engine],
                *(devices if gpu else []),
                *volumes,
                *variables,
                spec.image,
            ]
        case _:
            return []


def node_checks(spec: JobSpec) -> list[str]:
    """Functions of ``templates/shell`` that look on each node for what the container runtime needs there."""
    gpus = spec.resources.gpus_per_node > 0
    return ["check_cdi"] if gpus and spec.site.container.runtime == "podman" else []

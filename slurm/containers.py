"""How each container runtime is told, from inside a Slurm job, to run a command in our image.

Pyxis, Apptainer and OCI bundles are options of srun or words before the command; the image's mounts are the shared
root and what the site adds.
"""

from __future__ import annotations

from jobs.render import Verbatim
from jobs.spec import JobSpec


def mounts(spec: JobSpec) -> list[str]:
    """``source:target[:ro]`` of all that the job sees of the host, the shared root first."""
    source = spec.site.project_dir
    return [
        f"{spec.site.root}:{spec.site.root}",
        *([f"{source}:{source}:ro"] if source else []),
        *spec.site.mounts,
    ]


def container_options(spec: JobSpec) -> list[str]:
    """srun's options: those of the pyxis plug-in, or Slurm's own for an OCI bundle."""
    match spec.site.container_runtime:
        case "pyxis":
            names = ",".join([*spec.site.env, *spec.site.pass_env])
            options = [
                f"--container-image={spec.image}",
                f"--container-mounts={','.join(mounts(spec))}",
                "--no-container-mount-home",
                "--container-writable",
            ]
            return [*options, f"--container-env={names}"] if names else options
        case "oci":
            return [f"--container={spec.image}"]
        case _:
            return []


def container_command(spec: JobSpec) -> list[str]:
    """Words before the command, for runtimes that are programs."""
    gpu = spec.resources.gpus_per_node > 0
    match spec.site.container_runtime:
        case "apptainer":
            binds = [word for mount in mounts(spec) for word in ("--bind", mount)]
            return ["apptainer", "exec", *(["--nv"] if gpu else []), *binds, spec.image]
        case "podman" | "docker" as engine:
            volumes = [word for mount in mounts(spec) for word in ("--volume", mount)]
            own = (
                "JOBCTL_ROOT",
                "RUN",
                "RUN_DIR",
                "ATTEMPT",
                *(["PYTHONPATH"] if spec.site.project_dir else []),
            )
            names = [*spec.site.env, *spec.site.pass_env, *own]
            variables = [word for name in names for word in ("--env", name)]
            devices = {"podman": ["--device", "nvidia.com/gpu=all"], "docker": ["--gpus", "all"]}[engine]
            # A node's podman maps the container's root to the job's user, who cannot raise limits; Docker's daemon can.
            own_way = {
                "podman": ["--user=0:0", "--ulimit=host", "--no-healthcheck"],
                "docker": [Verbatim('"--user=$(id -u):$(id -g)"'), *(["--ulimit=memlock=-1"] if gpu else [])],
            }
            return [
                engine, "run", "--rm", "--network=host", "--ipc=host", *own_way[engine],
                *(devices if gpu else []), *volumes, *variables, spec.image,
            ]  # fmt: skip
        case _:
            return []

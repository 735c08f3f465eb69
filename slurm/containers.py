"""The words with which a Slurm job tells each container runtime to run a command in our image.

A plug-in gets options of srun, and a program gets words before the command. The mounts of the image are the
shared root and the mounts of the site.
"""

from __future__ import annotations

from collections.abc import Iterable

from jobctl.jobs.render import Verbatim
from jobctl.jobs.spec.job_spec import JobSpec
from jobctl.jobs.spec.mounts import split_mount
from jobctl.slurm.images import importer
from jobctl.slurm.runtimes import SHIFTER_TYPES, all_mounts

MIB = 1 << 20

OF_THE_JOB = (
    "JOBCTL_ROOT",
    "RUN",
    "RUN_DIR",
    "ATTEMPT",
    "NODE",
    "PET_RDZV_CONF",
    "JOBCTL_INTERFACE",
)
"""Variables that the script sets for every spec."""


def container_options(spec: JobSpec, environment: Iterable[str]) -> list[str]:
    """Return srun's options for runtimes that are plug-ins of Slurm. ``environment`` is names."""
    match spec.site.container.runtime:
        case "pyxis":
            return [
                *_image(spec, "--container-image="),
                f"--container-mounts={','.join(all_mounts(spec))}",
                # Packages of the user's home would come before those of the image.
                "--no-container-mount-home",
                "--container-writable",
                # For other names the image's value would win.
                f"--container-env={','.join(['JOBCTL_ROOT', *environment, *spec.site.pass_env])}",
            ]
        case "edf":
            return [f"--environment={spec.image}"]
        case "oci":
            return [f"--container={spec.image}"]
        case _:
            return []


def container_command(spec: JobSpec, environment: Iterable[str]) -> list[str]:
    """Return the words before the command for runtimes that are programs. ``environment`` is names."""
    gpu = spec.resources.gpus_per_node > 0
    match spec.site.container.runtime:
        case "apptainer":
            binds = [word for mount in all_mounts(spec) for word in ("--bind", mount)]
            return ["apptainer", "exec", *(["--nv"] if gpu else []), *binds, *_image(spec)]
        case "edf":
            # The image's variables win over the job's, and our image has a variable of this name.
            return ["env", f"JOBCTL_ROOT={spec.site.root}"]
        case "shifter":
            return _shifter(spec)
        case "podman-hpc":
            return _podman_hpc(spec, environment)
        case "podman" | "docker":
            return _engine(spec, environment)
        case _:
            return []


def _image(spec: JobSpec, option: str = "") -> list[str]:
    """Return the image as a word. Return none if the script first makes a file of it and adds its name."""
    return [] if importer(spec) else [f"{option}{spec.image}"]


def _engine(spec: JobSpec, environment: Iterable[str]) -> list[str]:
    """Return the words for Podman or Docker."""
    gpu = spec.resources.gpus_per_node > 0
    if spec.site.container.runtime == "podman":
        devices = ["--device", "nvidia.com/gpu=all"]
        # A node's podman maps the container's root to the job's user. This user cannot raise limits, but
        # Docker's daemon can.
        own_way = ["--user=0:0", "--ulimit=host", "--no-healthcheck"]
    else:
        devices = ["--gpus", "all"]
        own_way = [Verbatim('"--user=$(id -u):$(id -g)"'), *_docker_limits(spec)]

    return [
        spec.site.container.runtime,
        # --ipc=host: NCCL and DataLoader workers need more shared memory than a container gets.
        *("run", "--rm", "--network=host", "--ipc=host"),
        *own_way,
        *(devices if gpu else []),
        *_volumes_and_variables(spec, environment),
        spec.image,
    ]


def _docker_limits(spec: JobSpec) -> list[str]:
    """Return the limits. The daemon starts the container, so it has the daemon's limits and not the job's."""
    files = spec.site.slurm.open_files
    core = spec.site.slurm.core_file_mib
    return [
        *(["--ulimit=memlock=-1"] if spec.resources.gpus_per_node else []),
        *([f"--ulimit=nofile={files}"] if files else []),
        f"--ulimit=core={core if core < 0 else core * MIB}",
    ]


def _podman_hpc(spec: JobSpec, environment: Iterable[str]) -> list[str]:
    """Return the words for Podman's wrapper, which takes the site's modules as options."""
    modules = [*(["gpu"] if spec.resources.gpus_per_node else []), *spec.site.container.modules]
    return [
        *("podman-hpc", "run", "--rm", "--network=host", "--ipc=host"),
        *("--user=0:0", "--ulimit=host", "--no-healthcheck"),
        *(f"--{module}" for module in dict.fromkeys(modules)),
        *_volumes_and_variables(spec, environment),
        # The wrapper removes the first of these, at any position, and reads options up to it.
        "--",
        spec.image,
    ]


def _volumes_and_variables(spec: JobSpec, environment: Iterable[str]) -> list[str]:
    """Return mounts and names of variables. Values on a command line are visible to all users of the node."""
    source = ["PYTHONPATH"] if spec.site.project_dir else []
    names = [*environment, *spec.site.pass_env, *OF_THE_JOB, *source]
    return [
        *(word for mount in all_mounts(spec) for word in ("--volume", mount)),
        *(word for name in names for word in ("--env", name)),
    ]


def _shifter(spec: JobSpec) -> list[str]:
    """Return Shifter's words. It passes the job's variables on, but variables of the image win over them."""
    image = spec.image
    kind = "" if image.partition(":")[0] in SHIFTER_TYPES else "docker:"
    modules = spec.site.container.modules
    return [
        "shifter",
        f"--image={kind}{image}",
        *(f"--volume={':'.join(split_mount(mount))}" for mount in all_mounts(spec)),
        *([f"--module={','.join(modules)}"] if modules else []),
        f"--env=JOBCTL_ROOT={spec.site.root}",
        "--",
    ]


def node_checks(spec: JobSpec) -> list[str]:
    """Return the functions of ``templates/shell`` that check each node for the runtime's needs."""
    gpus = spec.resources.gpus_per_node > 0
    return ["check_cdi"] if gpus and spec.site.container.runtime == "podman" else []

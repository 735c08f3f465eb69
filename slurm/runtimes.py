"""The container runtimes of Slurm clusters: how to detect each, and the settings that each refuses."""

from __future__ import annotations

import shutil
from dataclasses import dataclass

from jobctl.jobs.catalog.schema import ContainerRuntime
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.spec.job_spec import JobSpec
from jobctl.jobs.spec.mounts import check_places, place_of, split_mount


@dataclass(frozen=True)
class Runtime:
    """One container runtime: a plug-in of srun, or a program on the nodes."""

    name: ContainerRuntime
    plugin_option: str = ""
    """The option that srun's help names if the plug-in is installed; empty for a program."""
    places_mounts: bool = True
    """True if a command may name mounts. Otherwise they are in a separate file of the runtime."""
    has_modules: bool = False
    """True if the site offers parts of the node (GPUs, NCCL) under names that a command may request."""

    @property
    def program(self) -> str:
        """Return the program that must be on the PATH of a node; empty for a plug-in."""
        return "" if self.plugin_option else self.name


RUNTIMES = (
    Runtime("pyxis", plugin_option="--container-image"),
    Runtime("edf", plugin_option="--environment", places_mounts=False),
    Runtime("apptainer"),
    Runtime("podman-hpc", has_modules=True),
    Runtime("shifter", has_modules=True),
    Runtime("podman"),
    Runtime("docker"),
)
"""The runtimes that can be detected. The most likely choice of a cluster with several comes first."""
_OCI = Runtime("oci", plugin_option="--container", places_mounts=False)
"""srun always has this option. ``oci.conf`` decides whether it works, and only administrators see it."""
KNOWN: dict[str, Runtime] = {runtime.name: runtime for runtime in (*RUNTIMES, _OCI)}

SHARED_RUN_MODULES = ("mpi", "cuda-mpi", "openmpi-pmi2", "openmpi-pmix")
"""With these modules podman-hpc starts a container in the background and passes its signals to nobody."""
SHIFTER_TYPES = ("docker", "custom", "id", "local")
SHIFTER_TAKEN = ("/etc", "/var", "/opt/udiImage")
"""Folders of an image below which shifter lets no user mount. /var/tmp itself is allowed."""


def runtime_of(spec: JobSpec) -> Runtime | None:
    """Return the site's runtime, or None if the job runs without a container."""
    return KNOWN.get(spec.site.container.runtime)


def is_here(runtime: Runtime, help_of_srun: str) -> bool:
    """Return whether a runtime is installed. srun's help shows a plug-in, and the PATH shows a program."""
    if runtime.plugin_option:
        # srun's help shows an option with its value behind an equals sign.
        return any(word.partition("=")[0] == runtime.plugin_option for word in help_of_srun.split())

    return shutil.which(runtime.program) is not None


def refuse_unfit(spec: JobSpec) -> None:
    """Raise UserError for a setting that the site's container runtime cannot obey."""
    runtime = runtime_of(spec)
    name = spec.site.container.runtime
    if spec.site.container.modules and not (runtime and runtime.has_modules):
        raise UserError(
            f"container.modules: runtime {name} has no modules",
            hint="only podman-hpc and shifter have them; for environment modules of the nodes, use modules:",
        )

    if runtime is None:
        return

    if spec.site.container.mounts and not runtime.places_mounts:
        file = {"edf": "the EDF (mounts = […])", "oci": "config.json of the bundle"}[name]
        raise UserError(f"container.mounts: runtime {name} accepts no mounts", hint=f"write them into {file}")

    if runtime.places_mounts:
        check_places(all_mounts(spec))

    match name:
        case "edf":
            _refuse_image_for_edf(spec)
        case "oci":
            _refuse_image_for_oci(spec)
        case "pyxis":
            _refuse_commas(spec)
        case "podman-hpc":
            _refuse_shared_run(spec)
        case "shifter":
            _refuse_for_shifter(spec)


def _refuse_image_for_edf(spec: JobSpec) -> None:
    image = spec.inputs.image
    if not image:
        raise UserError(
            "container.runtime edf needs an environment definition file",
            hint="image: /path/of/it.toml, or its name without .toml if it is in ~/.edf or $EDF_PATH",
        )

    if not image.startswith("/") and ("/" in image or image.endswith(".toml")):
        raise UserError(
            f"image {image}: a job does not start in this folder, so it cannot find the file",
            hint="give the absolute path of the EDF, or its name without .toml",
        )


def _refuse_image_for_oci(spec: JobSpec) -> None:
    if not spec.image.startswith("/"):
        raise UserError(
            f"image {spec.image}: runtime oci starts only the folder of a bundle",
            hint="image: /path/of/the/bundle",
        )


def _refuse_commas(spec: JobSpec) -> None:
    for text in (spec.site.root, spec.site.project_dir, *spec.site.container.mounts):
        if "," in text:
            raise UserError(f"{text}: pyxis ends a mount at a comma", hint="choose another path")


def _refuse_shared_run(spec: JobSpec) -> None:
    for module in spec.site.container.modules:
        if module in SHARED_RUN_MODULES:
            raise UserError(
                f"container.modules: podman-hpc's module {module} starts the container in the background, "
                "where no signal reaches the training",
                hint="torch needs no MPI; gpu and nccl do",
            )


def _refuse_for_shifter(spec: JobSpec) -> None:
    image = spec.image
    if image.startswith(("/", "./")):
        raise UserError(
            f"image {image}: shifter needs the name of an image of its gateway, not a file",
            hint="shifterimg pull NAME:TAG, then image: NAME:TAG",
        )

    for source, target, *flags in map(split_mount, all_mounts(spec)):
        if any(character in source + target for character in ";,"):
            raise UserError(f"{source}: shifter cannot mount a path with ; or ,")

        inside = place_of(target)
        taken = [folder for folder in SHIFTER_TAKEN if inside == folder or inside.startswith(f"{folder}/")]
        if inside == "/opt" or (taken and inside != "/var/tmp"):
            raise UserError(
                f"{target}: shifter lets no user mount there",
                hint="choose root: and mounts outside /etc, /var and /opt",
            )

        if any(flag != "ro" for flag in flags):
            raise UserError(
                f"container.mounts: shifter does not know {':'.join(flags)}", hint="ro, or nothing"
            )


def all_mounts(spec: JobSpec) -> list[str]:
    """Return ``source:target[:flags]`` of all host folders that the job sees, the shared root first."""
    source = spec.site.project_dir
    return [
        f"{spec.site.root}:{spec.site.root}",
        *([f"{source}:{source}:ro"] if source else []),
        *spec.site.container.mounts,
    ]

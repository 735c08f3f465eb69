"""The section ``slurm`` of a site: settings that only the target slurm reads."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from jobctl.jobs.core.bounds import MOST

GpuRequest = Literal["gpus-per-node", "gres"]


class SlurmSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settings of a Slurm cluster. Empty: Slurm's own default."""

    cluster: Annotated[
        str,
        Meta(
            pattern=r"^[A-Za-z0-9_.-]*$",
            description=(
                "Slurm cluster, if several share a slurmdbd (--clusters); empty: the cluster of this machine"
            ),
        ),
    ] = ""
    partition: Annotated[str, Meta(description="Slurm partition")] = ""
    cpu_partition: Annotated[
        str, Meta(description="Slurm partition for jobs without GPUs; empty: slurm.partition")
    ] = ""
    account: Annotated[str, Meta(description="Slurm account")] = ""
    qos: Annotated[str, Meta(description="Slurm quality of service")] = ""
    reservation: Annotated[str, Meta(description="Slurm reservation")] = ""
    constraint: Annotated[str, Meta(description="Slurm node features")] = ""
    mail_user: Annotated[str, Meta(description="address for mails about the job")] = ""
    mail_type: Annotated[str, Meta(description="events that send a mail, in sbatch's spelling")] = "END,FAIL"
    comment: Annotated[str, Meta(description="text for the job's comment; it comes before jobctl's text")] = (
        ""
    )
    gpu_request: Annotated[GpuRequest, Meta(description="how the site asks for GPUs")] = "gpus-per-node"
    gpu_type: Annotated[str, Meta(description="the GPU's name in gres.conf, if the site requires it")] = ""
    spare_nodes: Annotated[
        int,
        Meta(
            ge=0,
            le=MOST,
            description="spare nodes; they replace bad nodes that the preflight finds",
        ),
    ] = 0
    interface: Annotated[
        str,
        Meta(
            description="network interface over which the nodes connect; empty: the interface of their addresses"
        ),
    ] = ""
    open_files: Annotated[
        int,
        Meta(
            ge=0,
            le=MOST,
            description="files that a process may have open (ulimit -n); 0: Slurm's value",
        ),
    ] = 65536
    core_file_mib: Annotated[
        int,
        Meta(
            ge=-1,
            le=MOST,
            description="MiB of memory that a crashed process may leave as a core file; -1: all of it",
        ),
    ] = 0
    exclusive: Annotated[bool, Meta(description="whole nodes")] = True
    memory: Annotated[
        str,
        Meta(
            description=(
                "memory of a node, in sbatch's form; 0: all memory for a whole node, Slurm's default for "
                "part of a node"
            )
        ),
    ] = "0"
    options: Annotated[
        dict[str, str | int | bool | None],
        Meta(
            description=(
                "other options of sbatch by their long names; true: a flag without a value; false: leave "
                "the option out"
            )
        ),
    ] = {}
    srun_options: Annotated[
        dict[str, str | int | bool | None],
        Meta(description="options of srun for the program that runs, in the same form"),
    ] = {}

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
            description="Slurm cluster, where several share a slurmdbd (--clusters); empty: that of the machine",
        ),
    ] = ""
    partition: Annotated[str, Meta(description="Slurm partition")] = ""
    cpu_partition: Annotated[
        str, Meta(description="Slurm partition of jobs without GPUs; empty: the same")
    ] = ""
    account: Annotated[str, Meta(description="Slurm account")] = ""
    qos: Annotated[str, Meta(description="Slurm quality of service")] = ""
    reservation: Annotated[str, Meta(description="Slurm reservation")] = ""
    constraint: Annotated[str, Meta(description="Slurm node features")] = ""
    mail_user: Annotated[str, Meta(description="address that is told of the job's end")] = ""
    mail_type: Annotated[str, Meta(description="events that are mailed, as sbatch spells them")] = "END,FAIL"
    comment: Annotated[str, Meta(description="words in the job's comment, before jobctl's own")] = ""
    gpu_request: Annotated[GpuRequest, Meta(description="how the site asks for GPUs")] = "gpus-per-node"
    gpu_type: Annotated[str, Meta(description="the GPU's name in gres.conf, where the site requires it")] = ""
    spare_nodes: Annotated[
        int,
        Meta(
            ge=0,
            le=MOST,
            description="extra nodes, which take the place of bad ones that the preflight names",
        ),
    ] = 0
    interface: Annotated[
        str, Meta(description="network interface on which the nodes meet; empty: the one of their addresses")
    ] = ""
    open_files: Annotated[
        int,
        Meta(
            ge=0,
            le=MOST,
            description="files that a process may open at once (ulimit -n); 0: as Slurm gives it",
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
            description="memory a node as sbatch spells it; 0: all of a whole node, Slurm's default of a part"
        ),
    ] = "0"
    options: Annotated[
        dict[str, str | int | bool | None],
        Meta(
            description="any other options of sbatch by their long names; true: a flag, false: leave it out"
        ),
    ] = {}
    srun_options: Annotated[
        dict[str, str | int | bool | None],
        Meta(description="options of srun for the payload, in the same form"),
    ] = {}

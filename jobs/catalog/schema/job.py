"""The keys of any job: its resources and its inputs."""

from typing import Annotated

import msgspec
from msgspec import Meta

from jobctl.jobs.catalog.schema.naming import NAME, ImageVariant
from jobctl.jobs.core.bounds import MOST


class Resources(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Resources that a job requests from the scheduler."""

    nodes: Annotated[int, Meta(ge=1, le=MOST, description="nodes of the job")] = 1
    gpus_per_node: Annotated[
        int, Meta(ge=0, le=MOST, description="GPUs on each node; 0 on the cpu hardware")
    ] = 8
    processes_per_node: Annotated[
        int, Meta(ge=0, le=MOST, description="trainer processes a node; 0: one a GPU")
    ] = 0
    time_limit: Annotated[
        str,
        Meta(
            pattern=r"^(\d+-\d{1,2}(:\d{1,2}){0,2}|\d+(:\d{1,2}){0,2})$",
            description="time limit, as [days-]hours:minutes:seconds or another form that sbatch accepts",
        ),
    ] = "24:00:00"
    stop_grace_seconds: Annotated[
        # sbatch's --signal takes no more seconds than this.
        int,
        Meta(
            ge=1,
            le=65535,
            description="seconds before the time limit at which the job is warned, so that it can checkpoint",
        ),
    ] = 300
    max_attempts: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000_000,
            description="number of stops by the time limit after which a run gives up; preemptions do not count",
        ),
    ] = 50
    retries: Annotated[
        int,
        Meta(
            ge=0,
            le=1_000_000,
            description="number of failures after which a run restarts automatically; never after wrong usage",
        ),
    ] = 0
    array_limit: Annotated[
        int,
        Meta(
            ge=0,
            le=MOST,
            description="tasks of a Slurm array that run at the same time; 0: no limit",
        ),
    ] = 0
    master_port: Annotated[int, Meta(ge=0, le=65535, description="rendezvous port; 0: from the job's id")] = 0


class Inputs(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Inputs of a job."""

    dataset: Annotated[str, Meta(pattern=NAME, description="a data set of the catalogue")] = "slimpajama_6b"
    tokenizer: Annotated[str, Meta(pattern=NAME, description="a tokenizer of the catalogue")] = "gpt2"
    image_variant: Annotated[
        ImageVariant, Meta(description="variant of jobctl's image that the hardware needs")
    ] = "cu132"
    image: Annotated[
        str, Meta(description="container image reference; empty: jobctl:<version>-<variant>")
    ] = ""
    sweep_batch_sizes: Annotated[
        tuple[Annotated[int, Meta(ge=1, le=MOST)], ...],
        Meta(description="batch sizes that stage sweep tries, one after another"),
    ] = ()

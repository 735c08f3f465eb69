"""The settings of one cluster: general keys, and a section for the container and for each scheduler."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from jobctl.jobs.catalog.schema.container_section import ContainerSection
from jobctl.jobs.catalog.schema.kubernetes_section import KubernetesSection
from jobctl.jobs.catalog.schema.login_section import LoginSection
from jobctl.jobs.catalog.schema.prices_section import PricesSection
from jobctl.jobs.catalog.schema.slurm_section import SlurmSection
from jobctl.jobs.core.bounds import LARGEST, MOST

Preflight = Literal["off", "report", "stop"]


class Site(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The settings of one cluster. Empty means: leave it to the scheduler's default."""

    root: Annotated[str, Meta(description="shared folder of runs, data sets, tokenizers ($JOBCTL_ROOT)")] = ""
    python: Annotated[
        str,
        Meta(description="interpreter with torch, without a container; empty: $JOBCTL_PYTHON or python3"),
    ] = ""
    project_dir: Annotated[
        str, Meta(description="folder of jobctl's source on the nodes, put on PYTHONPATH")
    ] = ""
    modules: Annotated[tuple[str, ...], Meta(description="environment modules to load")] = ()
    env: Annotated[dict[str, str], Meta(description="environment of the job; never secrets")] = {}
    pass_env: Annotated[
        tuple[str, ...],
        Meta(description="names of variables to take from the submitter's environment (secrets)"),
    ] = ()
    secrets_file: Annotated[
        str,
        Meta(
            description=(
                "file of mode 600 with NAME=value lines, for pass_env variables that are not in the "
                "environment"
            )
        ),
    ] = ""
    preflight: Annotated[
        Preflight,
        Meta(description="check of the nodes before a training: off, report, or stop at a bad node"),
    ] = "off"
    nodelist: Annotated[str, Meta(description="nodes to use")] = ""
    exclude: Annotated[str, Meta(description="nodes to avoid")] = ""
    cpus_per_task: Annotated[
        int, Meta(ge=0, le=MOST, description="CPUs of a node's task; 0: leave it to the scheduler")
    ] = 0
    compile_cache_gib: Annotated[
        float,
        Meta(
            ge=0,
            le=LARGEST,
            description="GiB of compiled kernels that a user's jobs keep for later jobs; 0: none",
        ),
    ] = 8.0

    container: ContainerSection = ContainerSection()
    slurm: SlurmSection = SlurmSection()
    kubernetes: KubernetesSection = KubernetesSection()
    login: LoginSection = LoginSection()
    prices: PricesSection = PricesSection()


SITE_SECTIONS: dict[str, type[msgspec.Struct]] = {
    "container": ContainerSection,
    "slurm": SlurmSection,
    "kubernetes": KubernetesSection,
    "login": LoginSection,
    "prices": PricesSection,
}
"""The sections of ``Site`` by their names. A test holds this table equal to the fields of ``Site``."""

SCHEDULERS = ("slurm", "kubernetes")
"""The sections that one scheduler reads. All others are general."""

READ_BY_NO_JOB = ("login", "prices")
"""Sections that neither a job nor its scheduler reads. A change of them does not change a run."""

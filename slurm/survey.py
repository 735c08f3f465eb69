"""Find out the partitions, GPUs, accounts and container runtimes of a Slurm cluster, by its commands."""

from __future__ import annotations

import getpass
from collections.abc import Callable, Sequence

from jobctl.jobs.core.errors import UserError
from jobctl.jobs.targets.protocol import Offer, Survey
from jobctl.slurm.runtimes import RUNTIMES, is_here

PARTITIONS = ["sinfo", "--noheader", "--format=%P|%G"]
Ask = Callable[[list[str]], str]


def survey(ask: Ask, cluster: str = "") -> Survey:
    """Ask Slurm with ``ask``, which runs one command. Raises UserError if Slurm does not answer at all.

    ``ask`` asks one ``cluster`` of those that share its accounts. Empty: the cluster of this machine.
    """
    partitions, default = parse_partitions(ask(PARTITIONS))
    offers = [
        Offer(key="slurm.partition", values=tuple(partitions), chosen=chosen_partition(partitions, default))
    ]
    # Without types, offer nothing: the key must then stay empty.
    types = sorted({name for names in partitions.values() for name in names})
    if types:
        offers.append(Offer(key="slurm.gpu_type", values=tuple(types)))

    notes: list[str] = []
    # Many sites hide their accounts. Then add a note, and still write the rest of the file.
    offers += _accounts(ask, notes, cluster)
    runtimes = _runtimes(ask)
    offers.append(Offer(key="container.runtime", values=tuple(runtimes), chosen=runtimes[0]))

    return Survey(offers=tuple(offers), notes=tuple(notes))


def parse_partitions(text: str) -> tuple[dict[str, list[str]], str]:
    """Return each partition with its types of GPUs, and the default one, from ``sinfo --format=%P|%G``."""
    partitions: dict[str, list[str]] = {}
    default = ""
    for line in text.splitlines():
        name, _, resources = line.strip().partition("|")
        # sinfo marks the default partition with a star.
        if name.endswith("*"):
            name = name[:-1]
            default = name

        if name:
            partitions.setdefault(name, []).extend(gpu_types(resources))

    return partitions, default


def gpu_types(resources: str) -> list[str]:
    """Return the types of GPUs in a node's generic resources: ``gpu:a6000:2(S:0-1)`` is ``a6000``."""
    parts = [resource.partition("(")[0].split(":") for resource in resources.split(",")]
    return [part[1] for part in parts if len(part) == 3 and part[0] == "gpu"]


def chosen_partition(partitions: dict[str, list[str]], default: str) -> str:
    """Return the partition for a new site: the default if it has GPUs, otherwise the first with GPUs."""
    with_gpus = [name for name, types in partitions.items() if types]
    if default in with_gpus or not with_gpus:
        return default or next(iter(partitions), "")

    return with_gpus[0]


def parse_accounts(text: str) -> tuple[list[str], list[str]]:
    """Return accounts and qualities of service from ``sacctmgr --parsable2``, without repetitions."""
    rows = [line.split("|") for line in text.splitlines() if "|" in line]
    accounts = [row[0] for row in rows if row[0]]
    qualities = [name for row in rows for name in row[1].split(",") if name]
    return list(dict.fromkeys(accounts)), list(dict.fromkeys(qualities))


def _accounts(ask: Ask, notes: list[str], cluster: str) -> Sequence[Offer]:
    command = ["sacctmgr", "--noheader", "--parsable2", "show", "associations", f"user={getpass.getuser()}"]
    if cluster:
        command.append(f"cluster={cluster}")

    try:
        accounts, qualities = parse_accounts(ask([*command, "format=account,qos"]))
    except UserError as error:
        notes.append(f"your accounts cannot be listed: {error.message}")
        return ()

    return (
        Offer(key="slurm.account", values=tuple(accounts), chosen=accounts[0] if len(accounts) == 1 else ""),
        Offer(key="slurm.qos", values=tuple(qualities)),
    )


def _runtimes(ask: Ask) -> list[str]:
    """Return the ways in which this machine can start an image, ``none`` last. Nodes may have others."""
    try:
        help_of_srun = ask(["srun", "--help"])
    except UserError:
        help_of_srun = ""

    return [*(runtime.name for runtime in RUNTIMES if is_here(runtime, help_of_srun)), "none"]

"""The configuration files of the test cluster, as text."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

HostsStyle = Literal["debian", "clean", "fqdn"]
"""How a node's hosts file names the node itself.

``debian``: as 127.0.1.1, Debian's default. ``clean``: by its address. ``fqdn``: by a long name that no other node
can look up.
"""
NODES = ("n1", "n2")
GPUS_PER_NODE = 8
PORTS = 4
_FIRST_PORT = 23000
_PORTS_PER_SLOT = 10
_JOB_IDS_PER_SLOT = 10_000


def first_port(slot: int) -> int:
    """Of ``PORTS`` in a row: the controller's, each node's, and the accounting daemon's."""
    return _FIRST_PORT + slot * _PORTS_PER_SLOT


def slurm_conf(
    directory: Path,
    slot: int,
    *,
    name: str,
    accounts: int | None,
    cgroups: bool,
    newer: bool = False,
    stores_comments: bool = False,
) -> str:
    """Return slurm.conf with a production cluster's timings: Slurm's own defaults, unless a comment says why.

    ``accounts`` is the slot of the cluster that keeps the accounts of this one; None: nobody does. Slurm 24.11 and
    ``newer`` knows no switch/none any more, and tracks processes without control groups.
    """
    port = first_port(slot)
    d = directory
    nodes = "\n".join(
        f"NodeName={node} NodeHostname={node} NodeAddr={address(slot, i)} Port={port + 1 + i} "
        f"CPUs=16 RealMemory=8000 Gres=gpu:h100:{GPUS_PER_NODE}"
        for i, node in enumerate(NODES)
    )
    # slurmdbd tells other clusters the address from which a controller has come; nodes must be able to reach it.
    record = (
        f"AccountingStorageType=accounting_storage/slurmdbd\nAccountingStorageHost={controller(slot)}\n"
        f"AccountingStoragePort={first_port(accounts) + 3}\nAccountingStoragePass={d}/munge/munge.socket\n"
        f"JobAcctGatherType=jobacct_gather/linux"
        + ("\nAccountingStoreFlags=job_comment" if stores_comments else "")
        if accounts is not None
        else "JobAcctGatherType=jobacct_gather/none"
    )
    track = "cgroup" if cgroups and not newer else "linuxproc"
    switch = "" if newer else "SwitchType=switch/none\n"
    # cred_expire: a requeued job waits for its old credential. FirstJobId: a rendezvous port made of the job
    # id must not meet that of a neighbour cluster on the same loopback.
    return f"""ClusterName={name}
SlurmctldHost=localhost({controller(slot)})
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={d}/munge/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={d}/state
SlurmdSpoolDir={d}/spool/%n
SlurmctldPidFile={d}/run/slurmctld.pid
SlurmdPidFile={d}/run/slurmd-%n.pid
SlurmctldLogFile={d}/log/slurmctld.log
SlurmdLogFile={d}/log/slurmd-%n.log
ProctrackType=proctrack/{track}
TaskPlugin=task/none
MpiDefault=none
{switch}FirstJobId={1 + slot * _JOB_IDS_PER_SLOT}
ReturnToService=2
JobRequeue=1
KillWait=3
MinJobAge=300
MaxJobCount=20000
SchedulerType=sched/backfill
SchedulerParameters=sched_min_interval=0,batch_sched_delay=0,sched_interval=1,bf_interval=1,default_queue_depth=1000
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=400
GresTypes=gpu
SlurmdParameters=config_overrides
SlurmctldTimeout=30
SlurmdTimeout=300
{record}
{nodes}
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=gpu Nodes={",".join(NODES)} Default=YES DefaultTime=10 State=UP PriorityTier=2 PreemptMode=OFF
PartitionName=short Nodes={",".join(NODES)} MaxTime=5 MaxNodes=1 State=UP PriorityTier=2 PreemptMode=OFF
PartitionName=low Nodes={",".join(NODES)} DefaultTime=10 State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=10
PartitionName=scavenge Nodes={",".join(NODES)} DefaultTime=10 State=UP PriorityTier=1 PreemptMode=CANCEL GraceTime=0
"""


def slurmdbd_conf(directory: Path, slot: int) -> str:
    d = directory
    return f"""AuthType=auth/munge
AuthInfo=socket={d}/munge/munge.socket
DbdHost=localhost
DbdPort={first_port(slot) + 3}
SlurmUser=root
LogFile={d}/log/slurmdbd.log
PidFile={d}/run/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=slurm
StoragePass=tests
StorageLoc=slurm_acct_db
"""


def gres_conf(directory: Path) -> str:
    return f"Name=gpu Type=h100 File={directory}/dev/nvidia[0-{GPUS_PER_NODE - 1}] Flags=nvidia_gpu_env\n"


def cgroup_conf(directory: Path, *, newer: bool = False) -> str:
    if newer:
        return "CgroupPlugin=disabled\n"

    return f"CgroupPlugin=cgroup/v1\nCgroupAutomount=no\nCgroupMountpoint={directory}/cgroup\n"


def hosts(slot: int, node: int, style: HostsStyle) -> str:
    """Return the hosts file of a node, by its index."""
    names = [f"{address(slot, i)} {name}" for i, name in enumerate(NODES)]
    own_name = NODES[node]
    if style == "debian":
        names[node] = f"127.0.1.1 {own_name}"
    elif style == "fqdn":
        names[node] = f"{address(slot, node)} {own_name}.internal.lan {own_name}"

    return "\n".join(["127.0.0.1 localhost", *names, f"{controller(slot)} controller", ""])


def address(slot: int, node: int) -> str:
    """Return the address of a node in the cluster's own network."""
    return f"10.78.{slot}.{node + 1}"


def controller(slot: int) -> str:
    """Return the address of this machine in the cluster's network: the controller's, and that of who submits."""
    return f"10.78.{slot}.254"

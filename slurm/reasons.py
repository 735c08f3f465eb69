"""Say in plain words why a job waits and how it ended. Slurm itself uses code words."""

from __future__ import annotations

import re
from datetime import datetime

from jobctl.jobs.core.amounts import duration
from jobctl.slurm.hints import NEVER_STARTS
from jobctl.slurm.jobs import Job

_WAITING = {
    "Resources": "waiting for free nodes",
    "Priority": "jobs of higher priority are before it",
    "Dependency": "waiting for another job",
    "DependencyNeverSatisfied": "the job it depends on failed, so it will never start",
    "BeginTime": "waiting for its begin time",
    "JobHeldUser": "held; release it with scontrol release",
    "JobHeldAdmin": "held by an administrator",
    "JobArrayTaskLimit": "the array's limit of tasks at once is reached",
    "PartitionTimeLimit": "its time limit is longer than the partition allows, so it will not start",
    "PartitionNodeLimit": "it asks for more nodes than the partition has, so it will not start",
    "PartitionConfig": "the partition does not accept the job as it is",
    "PartitionDown": "the partition is down",
    "PartitionInactive": "the partition starts no jobs",
    "BadConstraints": "no node has what it asks for",
    "ReqNodeNotAvail": "a node it needs is down, drained or reserved",
    "NodeDown": "a node it needs is down",
    "Reservation": "waiting for its reservation to begin",
    "ReservationDeleted": "its reservation has been deleted",
    "InvalidAccount": "its account is not valid",
    "InvalidQOS": "its QoS is not valid",
    "Licenses": "waiting for a licence",
    "Cleaning": "its last attempt is still being cleaned up",
    "JobLaunchFailure": "it could not be launched",
    "launch failed requeued held": "it could not be launched and is held",
    "SchedDefer": "the scheduler starts jobs in its next round",
    "None": "Slurm has not looked at it yet",
    "": "Slurm has not looked at it yet",
}

UNDECIDED = frozenset({"", "None", "PartitionConfig"})
"""The reasons of a new job until the scheduler has looked at it."""

_ENDED = {
    "COMPLETED": "finished",
    "CANCELLED": "cancelled",
    "TIMEOUT": "stopped at its time limit",
    "NODE_FAIL": "stopped because a node died",
    "OUT_OF_MEMORY": "killed because a node ran out of memory",
    "PREEMPTED": "preempted by a job of higher priority",
    "DEADLINE": "stopped at its deadline",
    "BOOT_FAIL": "a node did not boot",
    "REQUEUED": "requeued",
}


def waiting_words(reason: str) -> str:
    """Return a pending reason in words. A limit of an account, QoS or user appears as the thing it counts."""
    reason = reason.strip("()")
    # Slurm writes details behind a comma.
    known, _, detail = reason.partition(",")
    if known in _WAITING:
        return f"{_WAITING[known]} ({detail.strip()})" if detail else _WAITING[known]

    # There are too many limits for the table, but their names follow this pattern.
    limit = re.fullmatch(r"(QOS|Assoc)(Grp|Max)(.*?)(Limit|PerUser|PerJob|PerAccount|PerNode)*", known)
    if limit:
        whose = "QoS" if limit[1] == "QOS" else "account"
        return f"the {whose}'s limit is reached: {_spaced(limit[3])} ({known})"

    return _spaced(known)


def job_words(job: Job, now: float) -> str:
    """Return one line about a job: its wait and expected start, its nodes, or how it ended."""
    if job.waiting:
        words = waiting_words(job.reason)
        return f"{'' if words.startswith('waiting') else 'waiting: '}{words}{_expected(job, now)}"

    if job.active:
        state = "ending" if job.state == "COMPLETING" else job.state.lower()
        return f"{state} on {job.node_list}" if job.node_list else state

    words = _ENDED.get(job.state, job.state.lower().replace("_", " "))
    if job.reason == "DependencyNeverSatisfied":
        return f"{words}: the job it depends on failed"

    if job.reason in NEVER_STARTS:
        return f"{words}: {_WAITING[job.reason]}"

    if job.signal:
        return f"{words} by signal {job.signal}"

    return f"{words} with exit code {job.exit_code}" if job.exit_code else words


def _expected(job: Job, now: float) -> str:
    # An estimate in the past is out of date.
    if job.started is None or job.started <= now:
        return ""

    at = datetime.fromtimestamp(job.started)
    day = "" if at.date() == datetime.fromtimestamp(now).date() else f" on {at:%Y-%m-%d}"
    return f"; expected to start in {duration(job.started - now)}, at {at:%H:%M}{day}"


def _spaced(camel: str) -> str:
    """Return ``max node per user`` for ``MaxNodePerUser``. A sequence of capitals stays one word."""
    return " ".join(re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+", camel)).lower() or camel

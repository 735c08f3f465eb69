"""Read the output of squeue and sacct about jobs into one type.

Both print text with our separators, which has the same form from 22.05 to 25.x. Their ``--json`` does not.
With it, 22.05's squeue ignores its filters, and its sacct reports exit code 0 for failed jobs. The names and
types of the fields (``job_state`` as a string, then as a list) change from release to release.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import msgspec

from jobctl.jobs.core.errors import UserError
from jobctl.slurm.directives import MAX_COMMENT

RECORD = "\x1e"
FIELD = "\x1f"
"""Separators before each job and between its fields. Names and comments may contain any typed text."""

_SQUEUE = ("%i", "%T", "%r", "%V", "%S", "%e", "%P", "%D", "%N", "%l", "%E", "%j", "%k")
SQUEUE_FORMAT = RECORD + FIELD.join(_SQUEUE)

SACCT_FIELDS = (
    "JobID",
    "State",
    "Reason",
    "Submit",
    "Start",
    "End",
    "Partition",
    "NNodes",
    "NodeList",
    "Timelimit",
    "ExitCode",
    "JobName",
    "Comment",
)

ACTIVE = frozenset(
    (
        *("PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT"),
        *("CONFIGURING", "POWER_UP_NODE", "RUNNING", "RESIZING", "SIGNALING", "STOPPED", "SUSPENDED"),
        *("COMPLETING", "STAGE_OUT"),
    )
)
"""States in which a job holds nodes, or will hold them."""
_REVOKED = "REVOKED"
"""The state that a cluster of a federation reports for a job that another cluster has started."""
_NO_NUMBER = str(2**32 - 2)
"""The id of a record in a federation whose job has moved to another cluster: Slurm's NO_VAL."""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One job. From sacct: one attempt of a job that was requeued. Times are seconds since 1970."""

    id: str
    name: str
    state: str
    reason: str = ""
    comment: str = ""
    partition: str = ""
    nodes: int = 0
    node_list: str = ""
    time_limit: str = ""
    dependency: str = ""
    submitted: int | None = None
    started: int | None = None
    """For a waiting job: the time at which Slurm expects to start it."""
    ended: int | None = None
    """For a waiting or running job: the time at which its time limit ends."""
    exit_code: int | None = None
    signal: int | None = None

    @property
    def active(self) -> bool:
        return self.state in ACTIVE

    @property
    def tasks(self) -> int:
        """Return the number of tasks of an array. squeue has one line for waiting tasks: ``7_[2,4-6%2]``."""
        # Behind % is the limit of tasks at once, which is no task.
        listed = self.id.partition("[")[2].partition("%")[0]
        ranges = re.findall(r"(\d+)(?:-(\d+))?", listed)
        return sum(int(last or first) - int(first) + 1 for first, last in ranges) or 1

    @property
    def waiting(self) -> bool:
        return self.state in ("PENDING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT")


def run_comment(directory: Path, words: str = "") -> str:
    """Return the comment of a run's job, after the site's ``words``. Raises UserError if it is too long."""
    comment = f"{words} jobctl:{directory}" if words else f"jobctl:{directory}"
    if len(comment.encode()) > MAX_COMMENT:
        raise UserError(
            f"the comment with the run directory's path is too long; Slurm accepts {MAX_COMMENT} bytes: {comment}",
            hint="choose a shorter root, run name or comment",
        )

    return comment


def of_run(
    jobs: Iterable[Job], run: str, comment: str, ids: Collection[str] = (), submitted: Collection[str] = ()
) -> list[Job]:
    """Return the jobs of one run, oldest first, by name and comment, or by the ids that attempts recorded.

    A job whose script came through a pipe may have another name. By default accounts store no comments, and a
    run of another root may have the same name. Then a job must be one of those that were ``submitted``.
    """

    def is_of_run(job: Job) -> bool:
        if job.id in ids:
            return True

        return job.name == run and (
            job.comment == comment or (not job.comment and array_of(job) in submitted)
        )

    # Sort by time and not only by id: after MaxJobId, Slurm starts again with small ids.
    return sorted(filter(is_of_run, jobs), key=lambda job: (job.submitted or 0, _number(job.id) or 0))


def array_of(job: Job) -> str:
    """Return the id that all tasks of an array share: ``7`` for ``7_2`` and for ``7_[3-5%2]``."""
    return job.id.partition("_")[0]


def is_elsewhere(job: Job) -> bool:
    """Return whether this is only the trace of a job that another cluster of the federation has."""
    return job.state == _REVOKED or job.id == _NO_NUMBER


def one_each(jobs: Iterable[Job]) -> list[Job]:
    """Return one record a job. If clusters of a federation have one each, the running cluster's counts."""
    records: dict[str, Job] = {}
    for job in jobs:
        known = records.get(job.id)
        if not is_elsewhere(job) and (known is None or _weight(job) > _weight(known)):
            records[job.id] = job

    return list(records.values())


def _weight(job: Job) -> tuple[bool, bool, bool]:
    """Return the weight of a record. A requeue ends a record on one cluster and begins one on another."""
    return (job.active, not job.waiting, bool(job.node_list))


def parse_squeue(text: str) -> list[Job]:
    """Read the output of ``squeue --noheader --format=SQUEUE_FORMAT`` under ``SLURM_TIME_FORMAT=%s``."""
    # Each record begins with the mark, so the first piece is no record.
    return [_queued(fields) for fields in _records(text.split(RECORD)[1:], len(_SQUEUE), RECORD)]


def parse_sacct(text: str) -> list[Job]:
    """Read the output of ``sacct --noheader --parsable2 --delimiter=FIELD --format=SACCT_FIELDS``."""
    return [_accounted(fields) for fields in _records(text.split("\n"), len(SACCT_FIELDS), "\n")]


def _records(pieces: Iterable[str], size: int, separator: str) -> list[list[str]]:
    """Return the fields of each record. A piece with too few fields continues the comment before it."""
    records: list[list[str]] = []
    for piece in pieces:
        # The comment is the last field, and may have the separator in it.
        fields = piece.removesuffix("\n").split(FIELD, size - 1)
        if len(fields) == size:
            records.append(fields)
        # A comment may contain the separator. The rest of the comment belongs to the previous record.
        elif records and piece:
            records[-1][-1] += separator + piece.removesuffix("\n")

    return [[_blank(field) for field in fields] for fields in records]


def _queued(fields: Sequence[str]) -> Job:
    id_, state, reason, submit, start, end, partition, nodes, node_list, limit, dependency, name, comment = (
        fields
    )
    return Job(
        id=id_,
        name=name,
        state=base_state(state),
        reason=reason,
        comment=comment,
        partition=partition,
        nodes=_number(nodes) or 0,
        node_list=node_list,
        time_limit=limit,
        dependency=dependency,
        submitted=_number(submit),
        started=_number(start),
        ended=_number(end),
    )


def _accounted(fields: Sequence[str]) -> Job:
    id_, state, reason, submit, start, end, partition, nodes, node_list, limit, ending, name, comment = fields
    # sacct writes CODE:SIGNAL.
    code, _, signal = ending.partition(":")
    return Job(
        id=id_,
        name=name,
        state=base_state(state),
        reason=reason,
        comment=comment,
        partition=partition,
        nodes=_number(nodes) or 0,
        node_list=node_list,
        time_limit=limit,
        submitted=_number(submit),
        started=_number(start),
        ended=_number(end),
        exit_code=_number(code),
        signal=_number(signal),
    )


def base_state(state: str) -> str:
    """Return ``CANCELLED`` for ``CANCELLED by 1000`` and for ``CANCELLED+``."""
    return re.split(r"[ +]", state.strip(), maxsplit=1)[0]


def _blank(field: str) -> str:
    # Slurm has several words for a value that is absent.
    return "" if field in ("(null)", "None", "N/A", "Unknown", "None assigned") else field


def _number(text: str) -> int | None:
    return int(text) if text.isdigit() else None

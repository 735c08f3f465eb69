"""The status of a run on Kubernetes, from its job's conditions, its pods, and its record's notes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec

from jobctl.jobs.core import exit_codes
from jobctl.jobs.core.reading import decode_json
from jobctl.jobs.runs.store import Run, State, Status
from jobctl.k8s import config_maps
from jobctl.k8s.names import QUEUE_LABEL
from jobctl.k8s.nodes import is_late
from jobctl.k8s.pods import Pod
from jobctl.k8s.queueing import ADMITTED, Waiting
from jobctl.k8s.resources import Object

MAX_LINES = 8
"""Lines of explanation; a job of hundreds of pods repeats itself."""
CANCEL_MARK = "jobctl/cancelled"
ENDED_MARK = "jobctl/ended"
JOB_MARK = "jobctl/job"
"""The uid of the job that was made last."""
OWNER_MARK = "jobctl/owner"
"""The user who submitted the run, by the API server's name."""

_NO_PODS = ("FailedCreate",)
"""Reasons of events that say why a job has no pods."""
_NO_VOLUME = ("FailedMount", "FailedAttachVolume")
"""Reasons of events that say why a pod does not start."""


def conditions(job: Object) -> dict[str, Object]:
    """The conditions of a job that hold. A job that was just made has no status yet."""
    listed = (job.get("status") or {}).get("conditions") or []
    return {condition["type"]: condition for condition in listed if condition.get("status") == "True"}


def ended(job: Object) -> bool:
    return bool(conditions(job).keys() & {"Succeeded", "Complete", "Failed"})


def status_of(
    run: Run,
    job: Object | None,
    pods: Sequence[Pod],
    warnings: Sequence[str],
    marks: Mapping[str, str],
    *,
    queue: Waiting = ADMITTED,
) -> Status:
    """Return the status of a run.

    ``pods`` are the newest of each index, ``marks`` the annotations of the run's record, and ``queue`` is why
    Kueue has not admitted the job.
    """
    uid = job["metadata"].get("uid", "") if job else marks.get(JOB_MARK, "")
    cancelled = _is_cancelled(marks, uid)
    owner = marks.get(OWNER_MARK, "")
    # Kubernetes removes ended jobs after a week. Then the record's marks tell the end.
    if job is None:
        return msgspec.structs.replace(_status_without_job(run, pods, cancelled, marks), owner=owner)

    state, code = _state(job, pods, cancelled)

    return Status(
        run=run.name,
        state=state,
        target=run.target,
        job_id=job["metadata"]["name"],
        attempt=_attempt(pods),
        nodes=_nodes(pods),
        exit_code=code,
        start=(job.get("status") or {}).get("startTime") or job["metadata"].get("creationTimestamp") or "",
        end=_end(job) if ended(job) else "",
        detail="\n  ".join(_detail(run, state, job, pods, warnings, cancelled, queue.why)),
        blocked="" if ended(job) else _blocked(pods, pods_of(job), warnings) or _blocked_in_queue(queue),
        owner=owner,
    )


def cancel_mark(time: str, uid: str) -> str:
    """Return the note that a user asked at ``time`` to end the job ``uid``. It holds for no later job."""
    return f"{time} {uid}"


def _is_cancelled(marks: Mapping[str, str], uid: str) -> bool:
    """Return whether a user asked this very job to end. The mark of an earlier job does not count."""
    if CANCEL_MARK not in marks:
        return False

    _, _, marked = marks[CANCEL_MARK].partition(" ")
    # Earlier versions wrote the time alone.
    return not marked or not uid or marked == uid


def _attempt(pods: Sequence[Pod]) -> int:
    """Return the newest attempt whose end a pod has reported; 0 if none has."""
    endings = [ending for pod in pods for ending in (pod.ending, pod.earlier) if ending]
    return max((ending.attempt for ending in endings), default=0)


def _nodes(pods: Sequence[Pod]) -> str:
    return ",".join(dict.fromkeys(pod.node for pod in pods if pod.node))


class _Ending(msgspec.Struct, frozen=True):
    """The note about a run that has ended."""

    state: State
    exit_code: int | None
    start: str
    end: str
    attempt: int = 0
    job: str = ""
    """The uid of the job that ended so; empty: written by an earlier version."""


def ending(status: Status, job: str = "") -> str:
    """Return the note about a run whose job ``job`` (its uid) has ended, for the time without the job."""
    remembered = _Ending(
        state=status.state,
        exit_code=status.exit_code,
        start=status.start,
        end=status.end,
        attempt=status.attempt,
        job=job,
    )
    return msgspec.json.encode(remembered).decode()


def _status_without_job(run: Run, pods: Sequence[Pod], cancelled: bool, marks: Mapping[str, str]) -> Status:
    """Return the status of a run whose job is gone. Its pods may still be at work on their last checkpoint.

    Not those whose time is over: their node does not answer, and who waits for them waits for ever.
    """
    late = [pod for pod in pods if pod.running and is_late(pod)]
    # Before the remembered end: a pod that checkpoints still writes into the run's directory.
    if alive := [pod for pod in pods if pod.running and pod not in late]:
        return Status(
            run=run.name,
            state="running",
            target=run.target,
            nodes=_nodes(alive),
            detail="\n  ".join(
                _short(["asked to stop", *(leaving(pod, run.name) for pod in pods if pod.running)])
            ),
        )

    if remembered := marks.get(ENDED_MARK, ""):
        try:
            told = decode_json(remembered, _Ending)
        except msgspec.MsgspecError as error:  # someone else wrote the annotation
            detail = f"the record of its end cannot be read: {error}"
            return Status(run=run.name, target=run.target, state="unknown", detail=detail)

        # The note counts only for the job that was made last.
        if not told.job or told.job == marks.get(JOB_MARK, told.job):
            facts = msgspec.structs.asdict(told)
            del facts["job"]
            return Status(run=run.name, target=run.target, **facts)

    state: State = "cancelled" if cancelled else "lost"
    gone = "" if cancelled else f"the cluster no longer has its job; jobctl resume {run.name}"
    if not marks:  # each record has some
        gone = (
            f"namespace {run.record.spec.site.kubernetes.namespace} has no record of it; "
            f"{config_maps.ELSEWHERE}"
        )

    lines = _short([*([gone] if gone else []), *(leaving(pod, run.name) for pod in late)])
    return Status(run=run.name, state=state, target=run.target, detail="\n  ".join(lines))


def _state(job: Object, pods: Sequence[Pod], cancelled: bool) -> tuple[State, int | None]:
    """Return the state, and the exit code of the attempt if it has ended."""
    true = conditions(job)
    endings = [pod.ending for pod in pods if pod.ending]
    cancelled = cancelled or any(ending.reason == "cancelled" for ending in endings)

    if "Succeeded" in true or "Complete" in true:
        # A job that was asked to stop and reached its end before that has finished.
        # Without a report nobody knows whether the work was done.
        finished = bool(endings) and all(ending.exit_code == 0 for ending in endings)
        return ("cancelled" if cancelled and not finished else "finished"), exit_codes.EXIT_FINISHED

    if "Failed" in true:
        # The script's own code says more than the container's, which a kill may have set.
        told = [ending.exit_code for ending in endings if ending.exit_code]
        code = next(iter(told), None) or next((pod.exit_code for pod in pods if pod.exit_code), None)
        if cancelled:
            return "cancelled", code

        if _past_deadline(true["Failed"]):
            return "stopped", exit_codes.EXIT_CONTINUE

        return ("stopped" if code == exit_codes.EXIT_CONTINUE else "failed"), code

    if any(pod.running for pod in pods):
        return "running", None

    # Without a condition and a pod, no operator has seen the job yet.
    return ("pending" if true or pods else "submitted"), None


def _past_deadline(failed: Object) -> bool:
    """Return whether a limit of the job itself ended it. Earlier versions set such a limit."""
    return failed.get("reason") == "DeadlineExceeded" or "than specified deadline" in failed.get(
        "message", ""
    )


def _end(job: Object) -> str:
    times = [
        job["status"].get("completionTime"),
        *(c.get("lastTransitionTime") for c in conditions(job).values()),
    ]
    return str(next((time for time in times if time), ""))


def _detail(
    run: Run,
    state: State,
    job: Object,
    pods: Sequence[Pod],
    warnings: Sequence[str],
    cancelled: bool,
    queue: str,
) -> list[str]:
    if state in ("finished", "cancelled"):
        return []

    if state in ("failed", "stopped"):
        return [
            *_short([*_why_ended(job, pods), *_events(warnings)]),
            f"jobctl logs {run.name}; jobctl resume {run.name}",
        ]

    lines = ["asked to stop"] if cancelled and state == "running" else []
    # A job may be suspended before its condition says so.
    if "Suspended" in conditions(job) or _suspended(job):
        lines.append(_why_suspended(job, queue))

    if replicas := _replicas(job, pods):
        lines.append(replicas)

    lines += [f"{pod.name}: {pod.waiting}" for pod in pods if pod.waiting]
    lines += [leaving(pod, run.name) for pod in pods if pod.deleted]
    lines += [_end_of(pod) for pod in pods if pod.exit_code not in (None, 0)]

    return _short([*lines, *_events(warnings)])


def _why_ended(job: Object, pods: Sequence[Pod]) -> list[str]:
    """Return the reason that the pods report, or else the reason of the job's condition."""
    condition = conditions(job)["Failed"]
    reasons = dict.fromkeys(pod.ending.reason for pod in pods if pod.ending and pod.ending.exit_code)
    if _past_deadline(condition):
        first = "its time limit is over"
    elif reasons:
        first = ", ".join(reasons)
    else:
        first = f"{condition.get('reason', '')}: {condition.get('message', '')}"

    return [first, *(_end_of(pod) for pod in pods if pod.exit_code not in (None, 0))]


def _why_suspended(job: Object, queue: str) -> str:
    label = (job["metadata"].get("labels") or {}).get(QUEUE_LABEL)
    if not label:
        return "suspended"
    return f"suspended: waits to be admitted in queue {label}" + (f": {queue}" if queue else "")


def leaving(pod: Pod, run: str) -> str:
    """Return a line about a pod of ``run`` that was deleted but still exists."""
    node = f" on {pod.node}" if pod.node else ""
    if is_late(pod):
        return (
            f"{pod.name}: was deleted and had to end by {pod.deleted}{node}; "
            f"if you know that the node is off: jobctl cancel {run} --force"
        )

    if not pod.deleted:
        return f"{pod.name}: still runs{node}"
    return f"{pod.name}: was deleted and must end by {pod.deleted}{node}"


def _blocked(pods: Sequence[Pod], wanted: int, warnings: Sequence[str]) -> str:
    """Return why the job cannot begin until somebody acts; empty if it may begin by itself.

    It has begun when all of its ``wanted`` pods are there.
    """
    for pod in pods:
        if pod.waits_for_ever:
            return f"{pod.name}: {pod.waiting}"

    if len(pods) < wanted:
        # The newest event comes first, since older ones may tell of faults that were repaired.
        return next((text for text in reversed(warnings) if text.startswith(_NO_PODS)), "")

    if any(not pod.running and pod.exit_code is None for pod in pods):
        return next((text for text in reversed(warnings) if text.startswith(_NO_VOLUME)), "")

    return ""


def _blocked_in_queue(queue: Waiting) -> str:
    return f"Kueue: {queue.why}" if queue.for_ever else ""


def _replicas(job: Object, pods: Sequence[Pod]) -> str:
    """Return the number of pods in each state; empty for one running pod, and before the first pod."""
    wanted = pods_of(job)
    counts = Counter("running" if pod.running else pod.phase.lower() for pod in pods)
    if not pods or counts == {"running": 1} == {"running": wanted}:
        return ""

    words = [f"{count} {phase}" for phase, count in counts.most_common()]
    return f"pods: {', '.join(words)} of {wanted}"


def pods_of(job: Object) -> int:
    """Return the number of pods that work on a job of any of our kinds."""
    spec = job["spec"]
    if "pytorchReplicaSpecs" in spec:
        return sum(replicas["replicas"] for replicas in spec["pytorchReplicaSpecs"].values())
    return int(spec["trainer"]["numNodes"] if "trainer" in spec else spec["completions"])


def _events(warnings: Sequence[str]) -> list[str]:
    return [f"event: {text}" for text in warnings]


def _suspended(job: Object) -> bool:
    spec = job.get("spec") or {}
    return bool(spec.get("suspend") or (spec.get("runPolicy") or {}).get("suspend"))


def _end_of(pod: Pod) -> str:
    code = pod.ending.exit_code if pod.ending else pod.exit_code
    bad = f"; bad nodes: {pod.ending.bad_nodes}" if pod.ending and pod.ending.bad_nodes else ""
    return f"{pod.name}: exit code {code}{bad}" + (f"\n    {pod.last_words}" if pod.last_words else "")


def _short(lines: list[str]) -> list[str]:
    rest = len(lines) - MAX_LINES
    return lines if rest <= 0 else [*lines[:MAX_LINES], f"and {rest} more"]

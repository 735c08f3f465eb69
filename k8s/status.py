"""Where a run on Kubernetes stands: its job's conditions, its pods, and what its record remembers of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec

from jobctl.jobs.core import exit_codes
from jobctl.jobs.runs.store import Run, State, Status
from jobctl.k8s.names import QUEUE_LABEL
from jobctl.k8s.pods import Pod
from jobctl.k8s.resources import Object

MAX_LINES = 8
"""Lines of explanation; a job of hundreds of pods repeats itself."""


def conditions(job: Object) -> dict[str, Object]:
    """The conditions of a job that hold. A job that was just made has no status yet."""
    found = (job.get("status") or {}).get("conditions") or []
    return {condition["type"]: condition for condition in found if condition.get("status") == "True"}


def ended(job: Object) -> bool:
    return bool(conditions(job).keys() & {"Succeeded", "Complete", "Failed"})


def status_of(
    run: Run, job: Object | None, pods: Sequence[Pod], warnings: Sequence[str], marks: Mapping[str, str]
) -> Status:
    """``pods`` are the newest of each index; ``marks`` the annotations of the run's record."""
    cancelled = "jobctl/cancelled" in marks
    if job is None:
        return _status_of_the_gone(run, cancelled, marks.get("jobctl/ended", ""))

    state, code = _state(job, pods, cancelled)

    return Status(
        run=run.name,
        state=state,
        target=run.target,
        job_id=job["metadata"]["name"],
        nodes=",".join(dict.fromkeys(pod.node for pod in pods if pod.node)),
        exit_code=code,
        start=(job.get("status") or {}).get("startTime") or job["metadata"].get("creationTimestamp") or "",
        end=_end(job) if ended(job) else "",
        detail="\n  ".join(_detail(run, state, job, pods, warnings, cancelled)),
    )


class _Ending(msgspec.Struct, frozen=True):
    """What is remembered of a run that has ended."""

    state: State
    exit_code: int | None
    start: str
    end: str


def ending(status: Status) -> str:
    """What is remembered of a run that has ended, for the time when its job is gone."""
    told = _Ending(state=status.state, exit_code=status.exit_code, start=status.start, end=status.end)
    return msgspec.json.encode(told).decode()


def _status_of_the_gone(run: Run, cancelled: bool, ending: str) -> Status:
    if ending:
        try:
            told = msgspec.json.decode(ending, type=_Ending)
        except msgspec.MsgspecError as error:  # someone else wrote the annotation
            detail = f"how it ended is not to be read: {error}"
            return Status(run=run.name, target=run.target, state="unknown", detail=detail)

        return Status(run=run.name, target=run.target, **msgspec.structs.asdict(told))

    state: State = "cancelled" if cancelled else "lost"
    gone = "" if cancelled else f"its job is gone from the cluster; jobctl resume {run.name}"

    return Status(run=run.name, state=state, target=run.target, detail=gone)


def _state(job: Object, pods: Sequence[Pod], cancelled: bool) -> tuple[State, int | None]:
    true = conditions(job)
    if "Succeeded" in true or "Complete" in true:
        return ("cancelled" if cancelled else "finished"), exit_codes.EXIT_FINISHED

    if "Failed" in true:
        code = next((pod.exit_code for pod in pods if pod.exit_code not in (None, 0)), None)
        if cancelled:
            return "cancelled", code

        if _past_deadline(true["Failed"]):
            return "stopped", exit_codes.EXIT_CONTINUE

        return ("stopped" if code == exit_codes.EXIT_CONTINUE else "failed"), code

    if any(pod.running for pod in pods):
        return "running", None

    return ("pending" if true or pods else "submitted"), None


def _past_deadline(failed: Object) -> bool:
    """Whether a job failed for its time limit alone: its pods were asked to stop, and so they checkpointed."""
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
    run: Run, state: State, job: Object, pods: Sequence[Pod], warnings: Sequence[str], cancelled: bool
) -> list[str]:
    if state in ("finished", "cancelled"):
        return []

    if state in ("failed", "stopped"):
        condition = conditions(job)["Failed"]
        over = "its time limit is over" if _past_deadline(condition) else ""
        lines = [over or f"{condition.get('reason', '')}: {condition.get('message', '')}"]
        lines += [_end_of(pod) for pod in pods if pod.exit_code not in (None, 0)]
        lines += _events(warnings)

        return [*_short(lines), f"jobctl logs {run.name}; jobctl resume {run.name}"]

    lines = ["asked to stop"] if cancelled and state == "running" else []
    if "Suspended" in conditions(job) or _suspended(job):
        queue = (job["metadata"].get("labels") or {}).get(QUEUE_LABEL)
        lines.append(f"suspended: waits to be admitted in queue {queue}" if queue else "suspended")

    if replicas := _replicas(job, pods):
        lines.append(replicas)

    lines += [f"{pod.name}: {pod.waiting}" for pod in pods if pod.waiting]
    lines += [_end_of(pod) for pod in pods if pod.exit_code not in (None, 0)]

    return _short([*lines, *_events(warnings)])


def _replicas(job: Object, pods: Sequence[Pod]) -> str:
    """How many pods are in which state; nothing where that is one running pod, or none was made yet."""
    wanted = pods_of(job)
    counts = Counter("running" if pod.running else pod.phase.lower() for pod in pods)
    if not pods or counts == {"running": 1} == {"running": wanted}:
        return ""

    words = [f"{count} {phase}" for phase, count in counts.most_common()]
    return f"pods: {', '.join(words)} of {wanted}"


def pods_of(job: Object) -> int:
    """How many pods work on a job of any of our kinds."""
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
    return f"{pod.name}: exit code {pod.exit_code}" + (f"\n    {pod.last_words}" if pod.last_words else "")


def _short(lines: list[str]) -> list[str]:
    rest = len(lines) - MAX_LINES
    return lines if rest <= 0 else [*lines[:MAX_LINES], f"and {rest} more"]

"""The objects of a namespace as last seen, and the time for which an answer is used."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from jobctl.jobs.catalog.schema import Site
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.runs.store import Run, Status
from jobctl.k8s import config_maps, names
from jobctl.k8s.attempts import read_attempt
from jobctl.k8s.pods import Pod, newest, read_pod, warnings_of
from jobctl.k8s.queueing import ADMITTED, Waiting, waiting_of
from jobctl.k8s.refusals import Refused
from jobctl.k8s.resources import CONFIG_MAP, EVENT, JOB, POD, Kind, Object, label_selector
from jobctl.k8s.status import ENDED_MARK, ended, status_of

if TYPE_CHECKING:
    from jobctl.k8s.api import Api

ANSWER_SECONDS = 2.0
"""Greatest age of an answer. A waiting jobctl asks often, and one API server serves everybody."""
MOST_PODS = 4
"""The number of waiting pods whose events are read. The other pods of a job wait for the same reason."""


class Cluster:
    """The objects of a namespace at one time."""

    def __init__(
        self,
        jobs: list[tuple[Kind, Object]],
        pods: list[Object],
        records: list[Object],
        events: Sequence[Object] = (),
        queue: Waiting = ADMITTED,
    ) -> None:
        self._jobs = jobs
        self._pods = pods
        self._events = events
        self._queue = queue
        self._marks = {
            thing["metadata"]["name"]: thing["metadata"].get("annotations") or {} for thing in records
        }

    @classmethod
    def seen(cls, api: Api, namespace: str, kinds: set[Kind], run: str) -> Cluster:
        """Read all runs, or ``run`` alone. Ask for the reason of waiting only if a pod waits."""
        labels = names.selector(run) if run else {names.MANAGED_BY: "jobctl"}
        selector = label_selector(labels)
        jobs = []

        for kind in sorted(kinds):
            jobs += [(kind, job) for job in _list_if_served(api, kind, namespace, selector)]

        pods = api.list_all(POD, namespace, labelSelector=selector)
        records = api.list_all(CONFIG_MAP, namespace, labelSelector=selector)
        events: list[Object] = []
        queue = ADMITTED

        # Events and the queue cost a request each, so they are asked for one run only, and while it can wait.
        if run and any(not ended(job) for _, job in jobs):
            events = _events_of(api, namespace, jobs, pods)
            queue = waiting_of(api, namespace, [job for _, job in jobs if not ended(job)])

        return cls(jobs, pods, records, events, queue)

    def jobs_of(self, run: Run) -> list[tuple[Kind, Object]]:
        """Return the jobs of the run, the newest last. ``run`` may also be a job on a checkpoint."""
        chosen = [(kind, job) for kind, job in self._jobs if names.is_of(job, run.path.name, run.step)]
        return sorted(chosen, key=lambda pair: pair[1]["metadata"].get("creationTimestamp") or "")

    @property
    def jobs(self) -> list[tuple[Kind, Object]]:
        """Return all jobs that were seen."""
        return self._jobs

    def at_work(self) -> list[str]:
        """Return the names of the jobs that have not ended, and of the pods that still run."""
        jobs = [f"job {job['metadata']['name']}" for _, job in self._jobs if not ended(job)]
        pods = [f"pod {pod.name}" for pod in map(read_pod, self._pods) if pod.running]
        return [*jobs, *pods]

    def newest_job(self, run: Run) -> Object | None:
        jobs = self.jobs_of(run)
        return jobs[-1][1] if jobs else None

    def pods_of(self, run: Run) -> list[Pod]:
        """Return the newest pod of each index. Pods may outlive the job that made them."""
        return newest(read_pod(pod) for pod in self._pods if names.is_of(pod, run.path.name, run.step))

    def status(self, run: Run) -> Status:
        job = self.newest_job(run)
        pods = self.pods_of(run)
        involved = {pod.name for pod in pods}
        if job:
            involved |= _makers(job)

        events = [event for event in self._events if event.get("involvedObject", {}).get("name") in involved]

        return status_of(run, job, pods, warnings_of(events), self.marks_of(run), queue=self._queue)

    def is_remembered(self, run: Run) -> bool:
        """Return whether the record already says how the newest job ended."""
        job = self.newest_job(run)
        # The note has the uid of its job in it, so that of an earlier job does not count.
        return job is None or job["metadata"].get("uid", "") in self.marks_of(run).get(ENDED_MARK, "")

    def marks_of(self, run: Run) -> dict[str, str]:
        """Return the annotations of the run's record."""
        return self._marks.get(names.object_name(run.name), {})


def _list_if_served(api: Api, kind: Kind, namespace: str, selector: str) -> list[Object]:
    """Return the objects of a kind; none if the operator is missing. The records exist without it."""
    try:
        return api.list_all(kind, namespace, labelSelector=selector)
    except Refused as refusal:
        if refusal.status == 404 and not refusal.object_missing and kind.operator:
            return []

        raise


def _makers(job: Object) -> set[str]:
    """Names of the objects whose events say why a job has no pods.

    Of a TrainJob's objects the JobSet is called like it, and the Job of that makes the pods.
    """
    name = job["metadata"]["name"]
    return {name, f"{name}-node-0"}


def _events_of(api: Api, namespace: str, jobs: list[tuple[Kind, Object]], pods: list[Object]) -> list[Object]:
    """Warnings about the jobs that have not ended, and about their pods that do not run."""
    involved: set[str] = set()
    for _, job in jobs:
        if not ended(job):
            involved |= _makers(job)

    waiting = [pod["metadata"]["name"] for pod in pods if not read_pod(pod).running]
    events: list[Object] = []

    # Sorted names make each look read the same pods.
    for name in [*sorted(involved), *sorted(waiting)[:MOST_PODS]]:
        # The server filters, because a namespace may have thousands of events.
        selector = f"type=Warning,involvedObject.name={name}"
        events += api.list_all(EVENT, namespace, fieldSelector=selector)

    return events


class Clusters:
    """The clusters that this process has asked, each connected once, and their last answers."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self._apis: dict[str, Api] = {}
        self._answers: dict[tuple[str, str, str], tuple[float, Cluster]] = {}
        self._attempts: dict[str, int] = {}

    def api(self, site: Site) -> Api:
        """Return the cluster of a site's context."""
        if site.kubernetes.context not in self._apis:
            from jobctl.k8s.api import Api

            self._apis[site.kubernetes.context] = Api(site.kubernetes.context)

        return self._apis[site.kubernetes.context]

    def api_of(self, run: Run) -> Api:
        """Return the cluster of a run."""
        return self.api(run.record.spec.site)

    def look(self, runs: Sequence[Run], *, fresh: bool = False) -> Cluster:
        """Return the objects of ``runs`` of one namespace. With ``fresh``, ask the server in any case."""
        site = runs[0].record.spec.site
        # One run has an answer of its own: that has events, and the answer about all runs has none.
        one = runs[0].path.name if len(runs) == 1 else ""
        key = (site.kubernetes.context, site.kubernetes.namespace, one)
        when, cluster = self._answers.get(key, (0.0, None))
        if cluster is None or fresh or time.monotonic() - when > ANSWER_SECONDS:
            cluster = Cluster.seen(self.api(site), site.kubernetes.namespace, {self._kind, JOB}, one)
            # The age counts from the answer, and not from the question.
            self._answers[key] = (time.monotonic(), cluster)

        return cluster

    def find(self, run: Run, *, fresh: bool = False) -> Cluster:
        """Return the objects of ``run``. Raises UserError if the namespace has none, not even its record."""
        cluster = self.look([run], fresh=fresh)
        if not (cluster.marks_of(run) or cluster.jobs_of(run) or cluster.pods_of(run)):
            raise config_maps.no_record(run)

        return cluster

    def attempt_of(self, api: Api, namespace: str, pod: Pod) -> int:
        """Return the attempt of a running pod, from the head of its log; 0 if the log does not say it."""
        if pod.life not in self._attempts:
            try:
                self._attempts[pod.life] = read_attempt(api, namespace, pod)
            except UserError:  # no right to read logs, or the container is not up yet
                return 0

        # 0 means that the log does not say it yet. It is not kept, so that the next look asks again.
        if not self._attempts[pod.life]:
            return self._attempts.pop(pod.life)

        return self._attempts[pod.life]

    def forget_answers(self) -> None:
        """Forget the answers, so that the next call asks again."""
        self._answers.clear()

    def forget(self) -> None:
        """Forget the answers and the connections."""
        self._apis.clear()
        self._answers.clear()

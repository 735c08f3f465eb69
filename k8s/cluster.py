"""What a look at a namespace shows, and how long an answer is good for."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from jobctl.jobs.catalog.schema import Site
from jobctl.jobs.runs.store import Run, Status
from jobctl.k8s import names
from jobctl.k8s.pods import Pod, newest, read_pod, warnings_of
from jobctl.k8s.resources import CONFIG_MAP, EVENT, JOB, POD, Kind, Object, label_selector
from jobctl.k8s.status import status_of

if TYPE_CHECKING:
    from jobctl.k8s.api import Api

ANSWER_SECONDS = 2.0
"""How old an answer may be: a waiting jobctl asks often, and one API server serves everybody."""


class Cluster:
    """What one look at a namespace showed."""

    def __init__(
        self, jobs: list[tuple[Kind, Object]], pods: list[Object], events: list[Object], records: list[Object]
    ) -> None:
        self._jobs = jobs
        self._pods = pods
        self._events = events
        self._marks = {
            thing["metadata"]["name"]: thing["metadata"].get("annotations") or {} for thing in records
        }

    @classmethod
    def seen(cls, api: Api, namespace: str, kinds: set[Kind], run: str) -> Cluster:
        """All runs, or ``run`` alone. Events are asked for only where a pod waits."""
        labels = names.selector(run) if run else {names.MANAGED_BY: "jobctl"}
        selector = label_selector(labels)
        jobs = []

        for kind in sorted(kinds):
            jobs += [(kind, job) for job in api.list_all(kind, namespace, labelSelector=selector)]

        pods = api.list_all(POD, namespace, labelSelector=selector)
        waits = run and (not pods or any(not read_pod(pod).running for pod in pods))
        events = api.list_all(EVENT, namespace) if waits else []

        return cls(jobs, pods, events, api.list_all(CONFIG_MAP, namespace, labelSelector=selector))

    def jobs_of(self, run: Run) -> list[tuple[Kind, Object]]:
        """The run's own jobs, or those on its checkpoint where ``run`` is one of these; the newest last."""
        wanted = names.selector(run.path.name).items()
        mine = [
            (kind, job)
            for kind, job in self._jobs
            if wanted <= (labels := job["metadata"].get("labels") or {}).items()
            and names.is_for(labels, run.step)
        ]

        return sorted(mine, key=lambda found: found[1]["metadata"].get("creationTimestamp") or "")

    def newest_job(self, run: Run) -> Object | None:
        jobs = self.jobs_of(run)
        return jobs[-1][1] if jobs else None

    def pods_of(self, run: Run) -> list[Pod]:
        """The newest pod of each index of the newest job."""
        job = self.newest_job(run)
        if job is None:
            return []

        labels = {
            **names.selector(run.path.name),
            names.COMPONENT: job["metadata"]["labels"][names.COMPONENT],
        }.items()

        return newest(
            read_pod(pod) for pod in self._pods if labels <= (pod["metadata"].get("labels") or {}).items()
        )

    def status(self, run: Run) -> Status:
        job = self.newest_job(run)
        pods = self.pods_of(run)
        involved = {pod.name for pod in pods}
        if job:  # of a TrainJob's objects the JobSet is called like it, and the Job of that makes the pods
            involved |= {job["metadata"]["name"], f"{job['metadata']['name']}-node-0"}

        events = [event for event in self._events if event.get("involvedObject", {}).get("name") in involved]

        return status_of(run, job, pods, warnings_of(events), self._marks_of(run))

    def is_remembered(self, run: Run) -> bool:
        return "jobctl/ended" in self._marks_of(run)

    def _marks_of(self, run: Run) -> dict[str, str]:
        return self._marks.get(names.object_name(run.name), {})


class Clusters:
    """The clusters that this process has asked, each connected once, and their last answers."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self._apis: dict[str, Api] = {}
        self._answers: dict[tuple[str, str, str], tuple[float, Cluster]] = {}

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
        """Return the objects of ``runs``, which are of one namespace; ``fresh`` asks the server in any case."""
        site = runs[0].record.spec.site
        one = runs[0].path.name if len(runs) == 1 else ""
        key = (site.kubernetes.context, site.kubernetes.namespace, one)
        when, cluster = self._answers.get(key, (0.0, None))
        if cluster is None or fresh or time.monotonic() - when > ANSWER_SECONDS:
            cluster = Cluster.seen(self.api(site), site.kubernetes.namespace, {self._kind, JOB}, one)
            self._answers[key] = (time.monotonic(), cluster)

        return cluster

    def forget_answers(self) -> None:
        """Ask again next time: something has changed."""
        self._answers.clear()

    def forget(self) -> None:
        """Forget the connections as well."""
        self._apis.clear()
        self._answers.clear()

"""One look at a namespace: its jobs, pods, events and records, and what they say of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobctl.jobs.runs.store import Run, Status
from jobctl.k8s import names
from jobctl.k8s.pods import Pod, newest, read_pod, warnings_of
from jobctl.k8s.resources import CONFIG_MAP, EVENT, POD, Kind, Object, label_selector
from jobctl.k8s.status import status_of

if TYPE_CHECKING:
    from jobctl.k8s.api import Api


class Cluster:
    """What one look at a namespace showed."""

    def __init__(
        self, jobs: list[tuple[Kind, Object]], pods: list[Object], events: list[Object], records: list[Object]
    ) -> None:
        self._jobs, self._pods, self._events = jobs, pods, events
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
        job, pods = self.newest_job(run), self.pods_of(run)
        involved = {pod.name for pod in pods}
        if job:  # of a TrainJob's objects the JobSet is called like it, and the Job of that makes the pods
            involved |= {job["metadata"]["name"], f"{job['metadata']['name']}-node-0"}
        events = [event for event in self._events if event.get("involvedObject", {}).get("name") in involved]
        return status_of(run, job, pods, warnings_of(events), self._marks_of(run))

    def is_remembered(self, run: Run) -> bool:
        return "jobctl/ended" in self._marks_of(run)

    def _marks_of(self, run: Run) -> dict[str, str]:
        return self._marks.get(names.object_name(run.name), {})

"""Kubernetes as a target of jobctl: manifests, states, the end of a job, and its logs."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jobctl.jobs.catalog.schema import Site
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.runs.store import ENDED, Run, Status, unknown_status
from jobctl.jobs.spec.job_spec import JobSpec
from jobctl.k8s import config_maps, manifest, names, submission
from jobctl.k8s.cluster import Cluster, Clusters
from jobctl.k8s.pods import Pod
from jobctl.k8s.resources import CONFIG_MAP, POD, PYTORCHJOB, TRAINJOB, Kind
from jobctl.k8s.status import ended, ending

if TYPE_CHECKING:
    from jobctl.k8s.store import ConfigMapStore


class KubernetesTarget:
    """One kind of distributed job. A job whose pods work for themselves is a Job of Kubernetes."""

    def __init__(
        self,
        name: str,
        kind: Kind,
        *,
        template: str,
        pod_template: str,
        container: str,
        fallback: KubernetesTarget | None = None,
    ) -> None:
        self.name = name
        self.kind = kind
        self.fallback = fallback
        """The target that a job is submitted to where the cluster does not serve ``kind``."""
        self.clusters = Clusters(kind)
        self._template = template
        self._pod_template = pod_template
        self._container = container

    def store(self, site: Site, home: Path) -> ConfigMapStore:
        """Return the runs of a site's namespace. ``home`` on this host notes which cluster keeps a run."""
        from jobctl.k8s.store import ConfigMapStore

        return ConfigMapStore(self, site, home)

    def render(self, spec: JobSpec) -> str:
        """Return the manifest of ``spec``."""
        if manifest.distributed(spec):
            return manifest.render(spec, self._template, self._container, self._pod_template)
        return manifest.render(spec, "job.yaml.j2", "jobctl", "pod_template.yaml.j2")

    def submit(self, run: Run, script: Path, after: Sequence[str] = ()) -> str:
        """Start another attempt by the manifest in ``script``."""
        job = submission.job_in(script.read_text(encoding="utf-8"))
        return submission.restart(self.clusters.api_of(run), job)

    # ---- states

    def statuses(self, runs: Sequence[Run]) -> list[Status]:
        """Ask once a namespace. Of several runs, those of a cluster that does not answer are unknown."""
        groups: dict[tuple[str, str], list[Run]] = defaultdict(list)
        for run in runs:
            site = run.record.spec.site
            groups[site.kubernetes.context, site.kubernetes.namespace].append(run)

        known: dict[str, Status] = {}

        for group in groups.values():
            try:
                known |= self._statuses_in_namespace(group)
            except UserError as problem:
                if len(runs) == 1:
                    raise

                known |= {run.name: unknown_status(run, problem) for run in group}

        return [known[run.name] for run in runs]

    def _statuses_in_namespace(self, runs: Sequence[Run]) -> dict[str, Status]:
        cluster = self.clusters.look(runs)
        known = {run.name: cluster.status(run) for run in runs}
        self._remember(runs, cluster, known)
        return known

    def _remember(self, runs: Sequence[Run], cluster: Cluster, known: Mapping[str, Status]) -> None:
        """Note how runs ended, for their jobs are deleted after a week."""
        for run in runs:
            if known[run.name].state in ENDED and not cluster.is_remembered(run):
                with contextlib.suppress(UserError):  # a user who may only read can still look
                    self._annotate(run, ended=ending(known[run.name]))

    def _annotate(self, run: Run, **marks: str | None) -> None:
        namespace = run.record.spec.site.kubernetes.namespace
        self.clusters.api_of(run).annotate(CONFIG_MAP, namespace, names.object_name(run.name), **marks)

    # ---- the end of a job

    def cancel(self, run: Run) -> None:
        """Delete the job. Its pods get a second; what the last checkpoint holds is kept."""
        self.delete(run, grace_seconds=1)

    def delete(self, run: Run, grace_seconds: int | None) -> None:
        """Delete the job; its pods end after ``grace_seconds``, or in their own time where it is None."""
        api = self.clusters.api_of(run)
        namespace = run.record.spec.site.kubernetes.namespace
        cluster = self.clusters.look([run], fresh=True)
        self.mark_cancelled(run)

        for kind, job in cluster.jobs_of(run):
            if not ended(job):
                api.delete(kind, namespace, job["metadata"]["name"])

        if grace_seconds is not None:
            for pod in cluster.pods_of(run):
                api.delete(POD, namespace, pod.name, grace_seconds=grace_seconds)

        self.clusters.forget_answers()

    def mark_cancelled(self, run: Run) -> None:
        """Note in the record that a user asked the job to end."""
        self._annotate(run, cancelled=config_maps.now())

    # ---- logs

    def logs(self, run: Run, *, rank: int | None, attempt: int | None, follow: bool) -> Iterator[str]:
        """Yield the lines of one rank, or of the first pod where ``rank`` is None."""
        from jobctl.k8s.logs import pod_logs

        index = 0 if rank is None else rank // run.record.spec.processes_per_node
        api = self.clusters.api_of(run)
        namespace = run.record.spec.site.kubernetes.namespace
        look = self.looker(run)

        return pod_logs(api, namespace, look, index=index, rank=rank, attempt=attempt, follow=follow)

    def looker(self, run: Run) -> Callable[[], tuple[list[Pod], bool]]:
        """Return a function that answers with the run's pods now, and whether its job has ended."""

        def look() -> tuple[list[Pod], bool]:
            cluster = self.clusters.look([run])
            job = cluster.newest_job(run)
            return cluster.pods_of(run), job is None or ended(job)

        return look


TRAIN = KubernetesTarget(
    "k8s-trainjob",
    TRAINJOB,
    template="trainjob.yaml.j2",
    pod_template="pod_patch.yaml.j2",
    container="node",
)
PYTORCH = KubernetesTarget(
    "k8s",
    PYTORCHJOB,
    template="pytorchjob.yaml.j2",
    pod_template="pod_template.yaml.j2",
    container="pytorch",
    fallback=TRAIN,
)

"""Kubernetes as a target of jobctl: manifests, states, the end of a job, and its logs."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from jobctl.jobs.catalog.schema import Resources, Site
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.core.stamps import utc_stamp
from jobctl.jobs.runs.store import Run, Status, unknown_status
from jobctl.jobs.spec.job_spec import JobSpec
from jobctl.jobs.targets.protocol import Capacity, Examination, Removing, Survey
from jobctl.k8s import manifest, names, placement, submission
from jobctl.k8s.cluster import Cluster, Clusters
from jobctl.k8s.nodes import avoided_nodes, check_none_is_due, remove_dead
from jobctl.k8s.ownership import tell_owner
from jobctl.k8s.pods import Pod
from jobctl.k8s.resources import CONFIG_MAP, POD, PYTORCHJOB, TRAINJOB, Kind, Object
from jobctl.k8s.status import OWNER_MARK, cancel_mark, ended, ending

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
        if placement.distributed(spec):
            return manifest.render(spec, self._template, self._container, self._pod_template)
        return manifest.render(spec, "job.yaml.j2", "jobctl", "pod_template.yaml.j2")

    def submit(self, run: Run, script: Path, after: Sequence[str] = ()) -> str:
        """Start another attempt by the manifest in ``script``."""
        text = script.read_text(encoding="utf-8")
        run_json = submission.objects_in(text)[0]["data"]["run.json"]
        return submission.restart(self.clusters.api_of(run), text, run_json)

    def capacity(self, site: Site) -> Capacity:
        """Return the GPUs of a site's cluster."""
        from jobctl.k8s.capacity import read_capacity

        return read_capacity(self.clusters.api(site), site)

    def survey(self, site: Site) -> Survey:
        """Return what a site's cluster has of the names in a site file."""
        from jobctl.k8s.survey import survey

        return survey(self.clusters.api(site), site)

    def examine(self, site: Site, resources: Resources) -> Examination:
        """Return what is wrong with a site's cluster for jobs with ``resources``.

        What is wrong for the operator that such a job does not use is a note.
        """
        from jobctl.k8s.diagnosis import CHECKS, examine, read_facts
        from jobctl.k8s.known_faults import faults_of, notes_of, read_operators, troubles_of

        api = self.clusters.api(site)
        facts = read_facts(api, site, self.kind, resources)
        # A submission would take the other operator, so the checks are those of that one.
        if self.fallback and self.kind not in facts.kinds and self.fallback.kind in facts.kinds:
            facts = msgspec.structs.replace(facts, kind=self.fallback.kind)

        troubles = examine(facts)
        others = [
            f"{each.cause}; only a {kind.name} needs it: {each.remedy}"
            for kind in sorted(facts.kinds - {facts.kind})
            for each in examine(msgspec.structs.replace(facts, kind=kind))
            if each not in troubles
        ]
        running = read_operators(api, facts.kinds)
        faults = faults_of(running, facts.kind.name, site.kubernetes.queue)

        return Examination(
            checks=len(CHECKS) + 1,
            troubles=(*troubles, *troubles_of(faults)),
            notes=(*notes_of(running, faults), *others),
        )

    # ---- states

    def statuses(self, runs: Sequence[Run]) -> list[Status]:
        """Ask once a namespace. Of several namespaces, the runs of one that does not answer are unknown."""
        groups: dict[tuple[str, str], list[Run]] = defaultdict(list)
        for run in runs:
            site = run.record.spec.site
            groups[site.kubernetes.context, site.kubernetes.namespace].append(run)

        known: dict[str, Status] = {}

        for group in groups.values():
            try:
                known |= self._statuses_in_namespace(group)
            except UserError as problem:
                if len(groups) == 1:
                    raise

                known |= {run.name: unknown_status(run, problem) for run in group}

        return [known[run.name] for run in runs]

    def _statuses_in_namespace(self, runs: Sequence[Run]) -> dict[str, Status]:
        cluster = self.clusters.look(runs)
        known = {run.name: self._with_attempt(run, cluster) for run in runs}
        self._remember(runs, cluster, known)
        return known

    def _with_attempt(self, run: Run, cluster: Cluster) -> Status:
        """Return the status of a run. Which attempt is at work only the log of its first pod says."""
        status = cluster.status(run)
        first = next((pod for pod in cluster.pods_of(run) if pod.index == 0 and pod.running), None)
        if first is None:
            return status

        namespace = run.record.spec.site.kubernetes.namespace
        attempt = self.clusters.attempt_of(self.clusters.api_of(run), namespace, first)

        return msgspec.structs.replace(status, attempt=attempt or status.attempt)

    def _remember(self, runs: Sequence[Run], cluster: Cluster, known: Mapping[str, Status]) -> None:
        """Note how runs ended, for their jobs are deleted after a week."""
        for run in runs:
            job = cluster.newest_job(run)
            if job is None or not ended(job) or cluster.is_remembered(run):
                continue

            with contextlib.suppress(UserError):  # a user who may only read can still look
                self._annotate(run, ended=ending(known[run.name], job["metadata"].get("uid", "")))

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
        cluster = self.clusters.find(run, fresh=True)
        tell_owner(run, cluster.marks_of(run).get(OWNER_MARK, ""), api.user())
        # Before the jobs go: a status asked for in between must say "cancelled" and not "lost".
        self.mark_cancelled(run, cluster.newest_job(run))

        for kind, job in cluster.jobs_of(run):
            if not ended(job):
                api.delete(kind, namespace, job["metadata"]["name"])

        # Deleting the job alone would give its pods all of their grace period.
        if grace_seconds is not None:
            for pod in cluster.pods_of(run):
                api.delete(POD, namespace, pod.name, grace_seconds=grace_seconds)

        self.clusters.forget_answers()

    def remove_dead(self, run: Run) -> list[str]:
        """Remove the pods that cannot end because their nodes are silent. Later attempts avoid the nodes."""
        api = self.clusters.api_of(run)
        namespace = run.record.spec.site.kubernetes.namespace
        cluster = self.clusters.find(run, fresh=True)
        removed = remove_dead(api, namespace, cluster.pods_of(run), force=True)
        if removed:
            # The next attempt must not be placed on the node that does not answer.
            avoided = avoided_nodes(cluster.marks_of(run), cluster.pods_of(run), removed)
            self._annotate(run, avoid=",".join(avoided))

        self.clusters.forget_answers()
        # Nothing was due, so say it if the pod of a silent node still has its time.
        if not removed:
            check_none_is_due(api, run.name, cluster.pods_of(run))

        return [f"{dead.pod.name} on {dead.pod.node}" for dead in removed]

    def mark_cancelled(self, run: Run, job: Object | None) -> None:
        """Note in the record that a user asked this job to end."""
        uid = job["metadata"].get("uid", "") if job else ""
        self._annotate(run, cancelled=cancel_mark(utc_stamp(), uid).strip())

    # ---- removal

    def check_removable(self, run: Run, trusted: Sequence[str]) -> None:
        """Raise UserError for a run of another user who is not trusted, or if anything of it is at work."""
        from jobctl.k8s.removal import check_removable

        cluster = self.clusters.find(run, fresh=True)
        check_removable(self.clusters.api_of(run), cluster, run, trusted)

    def removing(self, runs: Sequence[Run]) -> AbstractContextManager[Removing]:
        """Return access to the folders of ``runs`` on their volumes, by a pod on each."""
        from jobctl.k8s.removal import removing

        return removing(self.clusters, runs)

    # ---- from this host into the cluster

    def enter(self, run: Run, index: int, command: Sequence[str]) -> int:
        """Run ``command``, or a shell for none, in the pod ``index`` of a running job; its exit code."""
        from jobctl.k8s.terminal import enter

        return enter(self.clusters.api_of(run), run, self._running_pod(run, index), command)

    def forward(self, run: Run, local_port: int, port: int | None) -> None:
        """Serve a port of the first pod on this host. None: TensorBoard, in a pod that reads the volume."""
        from jobctl.k8s.forwarding import forward, tensorboard

        api = self.clusters.api_of(run)
        if port is None:
            self.clusters.find(run)
            tensorboard(api, run, local_port)
        else:
            forward(api, run, self._running_pod(run, 0).name, port, local_port)

    def _running_pod(self, run: Run, index: int) -> Pod:
        # Asked anew: a pod of the last answer may have ended, and entering it would fail with less to say.
        pods = [pod for pod in self.clusters.find(run, fresh=True).pods_of(run) if pod.running]
        for pod in pods:
            if pod.index == index:
                return pod

        where = f"; these run: {', '.join(str(pod.index) for pod in pods)}" if pods else ""
        raise UserError(
            f"pod {index} of run '{run.name}' does not run{where}",
            hint=f"jobctl status {run.name}; jobctl collect {run.path.name} -o DIR brings its files",
            code=1,
        )

    # ---- logs

    def logs(self, run: Run, *, rank: int | None, attempt: int | None, follow: bool) -> Iterator[str]:
        """Yield the lines of one rank, or of the first pod where ``rank`` is None."""
        from jobctl.k8s.logs import pod_logs

        # Ranks are numbered pod by pod.
        index = 0 if rank is None else rank // run.record.spec.processes_per_node
        api = self.clusters.api_of(run)
        namespace = run.record.spec.site.kubernetes.namespace
        look = self.looker(run)

        return pod_logs(api, namespace, look, index=index, rank=rank, attempt=attempt, follow=follow)

    def looker(self, run: Run) -> Callable[[], tuple[list[Pod], bool]]:
        """Return a function that answers with the run's pods now, and whether its job has ended.

        Raises UserError where the namespace has nothing of the run.
        """
        # Raised here and not at the first line: the caller may print something before it reads the log.
        self.clusters.find(run)

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
    container=manifest.TRAINJOB_CONTAINER,
)
PYTORCH = KubernetesTarget(
    "k8s",
    PYTORCHJOB,
    template="pytorchjob.yaml.j2",
    pod_template="pod_template.yaml.j2",
    container=manifest.PYTORCHJOB_CONTAINER,
    fallback=TRAIN,
)

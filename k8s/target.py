"""Kubernetes as a target of jobctl. A run's record is a ConfigMap, so any host that sees the cluster sees its runs."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from jobctl.jobs.catalog.schema import Site
from jobctl.jobs.core import layout
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.runs.records import BadRun, parse_record
from jobctl.jobs.runs.store import ENDED, Run, Started, State, Status
from jobctl.jobs.spec.job_spec import JobSpec
from jobctl.k8s import manifest, names, submission
from jobctl.k8s.cluster import Cluster
from jobctl.k8s.pods import Pod
from jobctl.k8s.resources import (
    CONFIG_MAP,
    JOB,
    POD,
    PYTORCHJOB,
    TRAINJOB,
    Kind,
    Object,
    label_selector,
)
from jobctl.k8s.status import ended, ending, status_of

if TYPE_CHECKING:
    from jobctl.k8s.api import Api

Decoded = TypeVar("Decoded", Site, JobSpec)
ANSWER_SECONDS = 2.0
"""How old an answer may be: who waits asks often, and one API server serves all."""
_STOP = (
    # The beginning of an attempt takes an old STOP away.
    'until [ -e "${TMPDIR:-/tmp}/jobctl-live" ] || [ "$SECONDS" -gt 60 ]; do sleep 0.2; done; '
    f'printf "cancel\\n" >"${{JOBCTL_ROOT:-{manifest.ROOT}}}/runs/$1/STOP"'
)


class KubernetesTarget:
    """One kind of training job; what is no training is a Job of Kubernetes itself."""

    chains = False

    def __init__(self, kind: Kind, *, template: str, pod_template: str, container: str) -> None:
        self._kind, self._template, self._pod_template, self._container = (
            kind,
            template,
            pod_template,
            container,
        )
        self._apis: dict[str, Api] = {}
        self._answers: dict[tuple[str, ...], tuple[float, Cluster]] = {}

    def render(self, spec: JobSpec) -> str:
        if manifest.distributed(spec):
            return manifest.render(spec, self._template, self._container, self._pod_template)
        return manifest.render(spec, "job.yaml.j2", "jobctl", "pod_template.yaml.j2")

    # ---- starting

    def start(self, spec: JobSpec) -> Started:
        """Make the run's objects, or find them made by an earlier submission of the same spec.

        Raises UserError when the run exists with other settings, or the cluster refuses.
        """
        kind, spec = self._submitted_as(spec)
        if kind is TRAINJOB and self is not TRAIN:
            return TRAIN.start(spec)
        self._check_order(spec)
        text = self.render(spec)
        new = submission.submit(self.api(spec.site), kind, text, replace_ended=spec.on_a_checkpoint)
        self._answers.clear()
        return Started(spec=spec, script=text, job_id=names.job_name(spec), new=new)

    def _submitted_as(self, spec: JobSpec) -> tuple[Kind, JobSpec]:
        """The kind of job that the cluster makes of ``spec``, and ``spec`` as its pods see it."""
        kind = submission.served_kind(self.api(spec.site), spec, self._kind)
        if kind not in (self._kind, JOB):
            spec = msgspec.structs.replace(spec, target="k8s-trainjob")
        return kind, manifest.in_pods(spec)

    def state(self, spec: JobSpec) -> State | None:
        """How far the job of just this ``spec`` is; None where it was not submitted, or another one was."""
        (kind, spec), api = self._submitted_as(spec), self.api(spec.site)
        namespace, name = spec.site.namespace, names.job_name(spec)
        record = api.get(CONFIG_MAP, namespace, name)
        if record is None or not _is_ours(record):
            return None
        marks = record["metadata"]["annotations"]
        if marks.get(names.HASH_ANNOTATION) != spec.fingerprint():
            return None
        return status_of(_run_of(record, spec.site), api.get(kind, namespace, name), (), (), marks).state

    def _check_order(self, spec: JobSpec) -> None:
        """Kubernetes has no dependencies between jobs, so those that come before must have finished."""
        for name in spec.after:
            run = self.find(spec.site, name)
            state = self.statuses([run])[0].state if run else "unknown"
            if state != "finished":
                raise UserError(
                    f"run '{name}' is {state}, and a job on Kubernetes cannot wait for another",
                    hint=f"jobctl wait {name} && jobctl submit …",
                    code=1,
                )

    def submit(self, run: Run, script: Path, after: Sequence[str] = ()) -> str:
        """Another attempt by the manifest in ``script``."""
        return submission.restart(
            self.api(site_of(run)), submission.job_in(script.read_text(encoding="utf-8"))
        )

    def resume(self, run: Run) -> str:
        """Another attempt by the job that the run was submitted with, which its record keeps."""
        api, site = self.api(site_of(run)), site_of(run)
        record = api.get(CONFIG_MAP, site.namespace, names.object_name(run.name))
        if record is None:
            raise _no_record(run)
        if "job.json" not in record["data"]:
            raise UserError(
                f"run '{run.name}' was not submitted by jobctl, so there is no record of its job",
                hint="delete the job, and apply its manifest again",
                code=1,
            )
        self._answers.clear()
        api.annotate(CONFIG_MAP, site.namespace, record["metadata"]["name"], cancelled=None, ended=None)
        return submission.restart(api, json.loads(record["data"]["job.json"]))

    # ---- finding

    def api(self, site: Site) -> Api:
        """The cluster of a site's context, connected once."""
        if site.context not in self._apis:
            from jobctl.k8s.api import Api

            self._apis[site.context] = Api(site.context)
        return self._apis[site.context]

    def find(self, site: Site, name: str) -> Run | None:
        record = self.api(site).get(CONFIG_MAP, site.namespace, names.object_name(name))
        run = _run_of(record, site) if record and _is_ours(record) else None
        return run if run and run.name == name else None

    def find_all(self, site: Site) -> list[Run]:
        """All runs of the site's namespace, the newest last."""
        selector = f"{names.MANAGED_BY}=jobctl"
        found = self.api(site).list_all(CONFIG_MAP, site.namespace, labelSelector=selector)
        found.sort(key=lambda record: record["metadata"].get("creationTimestamp") or "")
        runs = []
        for record in filter(_is_ours, found):
            try:
                runs.append(_run_of(record, site))
            except BadRun as problem:  # the others are listed all the same
                print(f"jobctl: note: left out: {problem.message}", file=sys.stderr)
        return runs

    # ---- the verbs

    def statuses(self, runs: Sequence[Run]) -> list[Status]:
        """Asks once a namespace. Of several runs, those of a cluster that does not answer are unknown."""
        groups: dict[tuple[str, str], list[Run]] = defaultdict(list)
        found: dict[str, Status] = {}
        for run in runs:
            try:
                groups[site_of(run).context, site_of(run).namespace].append(run)
            except UserError as problem:
                if len(runs) == 1:
                    raise
                found[run.name] = _unknown(run, problem)
        for mine in groups.values():
            try:
                cluster = self._look(mine)
                found |= {run.name: cluster.status(run) for run in mine}
                self._remember(mine, cluster, found)
            except UserError as problem:
                if len(runs) == 1:
                    raise
                found |= {run.name: _unknown(run, problem) for run in mine}
        return [found[run.name] for run in runs]

    def _remember(self, runs: Sequence[Run], cluster: Cluster, found: Mapping[str, Status]) -> None:
        """Note how runs ended, for their jobs go after a week."""
        for run in runs:
            if found[run.name].state in ENDED and not cluster.is_remembered(run):
                mark, site = ending(found[run.name]), site_of(run)
                with contextlib.suppress(UserError):  # who may only read can still look
                    self.api(site).annotate(
                        CONFIG_MAP, site.namespace, names.object_name(run.name), ended=mark
                    )

    def await_change(self, run: Run, seconds: float) -> None:
        """Return when the run's job changes, or after ``seconds``."""
        api, site, started = self.api(site_of(run)), site_of(run), time.monotonic()
        try:
            jobs = self._look([run], fresh=True).jobs_of(run)
            kind, selector = (
                jobs[-1][0] if jobs else self._kind,
                label_selector(names.selector(run.path.name)),
            )
            there, version = api.list_at(kind, site.namespace, labelSelector=selector)
            if not all(ended(job) for job in there) or not there:
                api.wait_for_change(
                    kind, site.namespace, since=version, seconds=seconds, labelSelector=selector
                )
        except UserError:  # watching is a right of its own, and looking again will say what is wrong
            time.sleep(min(ANSWER_SECONDS, seconds))
        time.sleep(max(0.0, min(ANSWER_SECONDS, seconds) - (time.monotonic() - started)))
        self._answers.clear()

    def _look(self, runs: Sequence[Run], *, fresh: bool = False) -> Cluster:
        site = site_of(runs[0])
        one = runs[0].path.name if len(runs) == 1 else ""
        key = (site.context, site.namespace, one)
        when, cluster = self._answers.get(key, (0.0, None))
        if cluster is None or fresh or time.monotonic() - when > ANSWER_SECONDS:
            cluster = Cluster.seen(self.api(site), site.namespace, {self._kind, JOB}, one)
            self._answers[key] = (time.monotonic(), cluster)
        return cluster

    def cancel(self, run: Run) -> None:
        """Delete the job; its pods get a second, and whatever the last checkpoint holds is kept."""
        self._delete(run, grace_seconds=1)

    def _delete(self, run: Run, grace_seconds: int | None) -> None:
        api, site = self.api(site_of(run)), site_of(run)
        cluster = self._look([run], fresh=True)
        api.annotate(CONFIG_MAP, site.namespace, names.object_name(run.name), cancelled=_now())
        for kind, job in cluster.jobs_of(run):
            if not ended(job):
                api.delete(kind, site.namespace, job["metadata"]["name"])
        if grace_seconds is not None:
            for pod in cluster.pods_of(run):
                api.delete(POD, site.namespace, pod.name, grace_seconds=grace_seconds)
        self._answers.clear()

    def request_stop(self, run: Run) -> None:
        """Create STOP in the run directory, by the first pod.

        Where not all pods of a training run, none of them trains, and there is nothing to checkpoint.
        """
        from jobctl.k8s.volume import Command

        api, site, spec = self.api(site_of(run)), site_of(run), run.record["spec"]
        pods = [pod for pod in self._look([run], fresh=True).pods_of(run) if pod.running]
        if spec["kind"] != "train" or len(pods) < spec["resources"]["nodes"]:
            return self._delete(run, grace_seconds=None)
        api.annotate(CONFIG_MAP, site.namespace, names.object_name(run.name), cancelled=_now())
        words = ["bash", "-c", _STOP, "stop", run.name]
        try:
            Command(api, site.namespace, pods[0].name, pods[0].container, words).finish()
        except (UserError, ConnectionError):  # deleting it runs the hook that creates STOP as well
            self._delete(run, grace_seconds=None)
        self._answers.clear()
        return None

    def logs(self, run: Run, *, rank: int | None, attempt: int | None, follow: bool) -> Iterator[str]:
        from jobctl.k8s.logs import pod_logs

        spec = run.record["spec"]
        processes = spec["resources"].get("processes_per_node") or spec["resources"]["gpus_per_node"] or 1
        index = 0 if rank is None else rank // processes
        look = self._looker(run)
        api, namespace = self.api(site_of(run)), site_of(run).namespace
        return pod_logs(api, namespace, look, index=index, rank=rank, attempt=attempt, follow=follow)

    def all_logs(self, run: Run, *, follow: bool) -> Iterator[str]:
        """Lines of every rank of every pod as they come."""
        from jobctl.k8s.logs import all_logs

        pods = run.record["spec"]["resources"]["nodes"]
        return all_logs(self.api(site_of(run)), site_of(run).namespace, self._looker(run), pods, follow)

    def _looker(self, run: Run) -> Any:
        def look() -> tuple[list[Pod], bool]:
            cluster = self._look([run])
            job = cluster.newest_job(run)
            return cluster.pods_of(run), job is None or ended(job)

        return look

    def collect(self, run: Run, into: Path) -> Mapping[str, int]:
        """Copy the run directory off the volume; how many files were there, came over, and changed meanwhile."""
        from jobctl.k8s.collect import collect

        site = site_of(run)
        return collect(
            self.api(site), site, run.path.name, _decoded(run, JobSpec, run.record["spec"]).image, into
        )


def _unknown(run: Run, problem: UserError) -> Status:
    return Status(run=run.name, state="unknown", target=run.target, detail=problem.message)


def site_of(run: Run) -> Site:
    return _decoded(run, Site, run.record["spec"]["site"])


def _decoded(run: Run, kind: type[Decoded], data: Object) -> Decoded:
    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError as problem:
        raise UserError(
            f"run '{run.name}' was submitted by another version of jobctl: {problem}",
            hint=f"its version is {run.record['spec'].get('version', 'unknown')}",
            code=1,
        ) from None


def _is_ours(record: Object) -> bool:
    """Whether a ConfigMap is a run's, and not somebody else's of the same name."""
    run = (record["metadata"].get("annotations") or {}).get(names.RUN_ANNOTATION, "")
    return bool(layout.RUN_NAME.fullmatch(run)) and "run.json" in (record.get("data") or {})


def _run_of(record: Object, site: Site) -> Run:
    """A run by its ConfigMap; by way of the context that we found it with, which may be called otherwise here."""
    own = record["metadata"]["annotations"][names.RUN_ANNOTATION]
    name = layout.job_name(own, (record["metadata"].get("labels") or {}).get(names.COMPONENT, ""))
    said = parse_record(record["data"]["run.json"], Path(f"ConfigMap {record['metadata']['name']}"))
    said["spec"]["site"] |= {"context": site.context, "namespace": site.namespace}
    said["submitted"] = record["metadata"].get("creationTimestamp") or ""
    return Run(name, Path(manifest.ROOT) / "runs" / own, said, ())


def _no_record(run: Run) -> UserError:
    return UserError(
        f"the cluster has no record of run '{run.name}' (ConfigMap {names.object_name(run.name)})",
        hint="is it another cluster's or namespace's? --context, --namespace",
        code=1,
    )


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


PYTORCH = KubernetesTarget(
    PYTORCHJOB, template="pytorchjob.yaml.j2", pod_template="pod_template.yaml.j2", container="pytorch"
)
TRAIN = KubernetesTarget(
    TRAINJOB, template="trainjob.yaml.j2", pod_template="pod_patch.yaml.j2", container="node"
)

"""The runs of one namespace: the cluster keeps their records, and their files are on its volume."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from jobctl.jobs.catalog.schema import Site
from jobctl.jobs.core import layout
from jobctl.jobs.core.durable import write_whole
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.runs import store as directories
from jobctl.jobs.runs.edits import Edit
from jobctl.jobs.runs.records import BadRun, parse_record, with_edit
from jobctl.jobs.runs.store import Run, Started, State
from jobctl.jobs.spec.job_spec import JobSpec
from jobctl.jobs.targets.registry import target_entry
from jobctl.k8s import admission, cluster, config_maps, manifest, names, submission
from jobctl.k8s.code import ship_code
from jobctl.k8s.manifest import pod_of
from jobctl.k8s.nodes import avoided_nodes, avoiding, cannot_go, dead_pods, remove_dead
from jobctl.k8s.ownership import check_owner, tell
from jobctl.k8s.resources import CONFIG_MAP, Kind, label_selector
from jobctl.k8s.status import OWNER_MARK, ended, status_of

if TYPE_CHECKING:
    from jobctl.k8s.target import KubernetesTarget

_STOP = (
    # The beginning of an attempt takes an old STOP away.
    'until [ -e "${TMPDIR:-/tmp}/jobctl-live" ] || [ "$SECONDS" -gt 60 ]; do sleep 0.2; done; '
    f'printf "cancel\\n" >"${{JOBCTL_ROOT:-{manifest.ROOT}}}/runs/$1/STOP"'
)


class ConfigMapStore:
    """The run store of a target, as ``jobctl.jobs.targets.protocol.RunStore`` describes it."""

    def __init__(self, target: KubernetesTarget, site: Site, home: Path) -> None:
        self._target = target
        self._clusters = target.clusters
        self._site = site
        self._home = home

    # ---- reading

    def find(self, name: str) -> Run | None:
        """Return the run called ``name`` of the site's namespace."""
        thing = self._clusters.api(self._site).get(
            CONFIG_MAP, self._site.kubernetes.namespace, names.object_name(name)
        )
        if thing is None or not config_maps.is_record(thing):
            return None

        run = config_maps.run_of(thing, self._site)
        # Another job may have objects of this name, so only the whole name counts.
        return run if run.name == name else None

    def find_all(self) -> list[Run]:
        """Return all runs of the site's namespace, the newest last."""
        selector = f"{names.MANAGED_BY}=jobctl"
        api = self._clusters.api(self._site)
        things = api.list_all(CONFIG_MAP, self._site.kubernetes.namespace, labelSelector=selector)
        # The server lists by name.
        things.sort(key=lambda thing: thing["metadata"].get("creationTimestamp") or "")
        readable: list[Run] = []

        for thing in filter(config_maps.is_record, things):
            try:
                readable.append(config_maps.run_of(thing, self._site))
            except BadRun as problem:  # the others are listed all the same
                tell(f"note: skipped: {problem.message}")

        return readable

    def state(self, spec: JobSpec) -> State | None:
        """Return the state of the job with exactly this ``spec``; None without such a job."""
        kind, spec = self._submitted_as(spec)
        api = self._clusters.api(spec.site)
        namespace = spec.site.kubernetes.namespace
        name = names.job_name(spec)
        thing = api.get(CONFIG_MAP, namespace, name)
        if thing is None or not config_maps.is_record(thing):
            return None

        run = config_maps.run_of(thing, spec.site)
        # The name is taken by other settings, so its state says nothing of this spec.
        if run.record.spec.fingerprint() != spec.fingerprint():
            return None

        marks = thing["metadata"]["annotations"]

        return status_of(run, api.get(kind, namespace, name), (), (), marks).state

    def location(self, run: Run) -> str:
        """Return the place of the run's files, and the way to get them."""
        volume = run.record.spec.site.root
        return f"{volume}/runs/{run.path.name} on the cluster's volume; jobctl collect {run.path.name} -o DIR"

    # ---- starting

    def start(self, spec: JobSpec) -> Started:
        """Make the run's objects, or find them made by an earlier submission of the same spec.

        A note under the home of this host says which cluster it was. Raises UserError when the run exists
        with other settings, or the cluster refuses.
        """
        assert spec.run is not None
        path = layout.run_dir(self._home, spec.run)
        # A run of this host has the same place, and its record must not be overwritten.
        if layout.record_file(path).is_file() and not _is_a_note(directories.read(self._home, spec.run)):
            raise UserError(f"run '{spec.run}' exists: {path}", hint="choose another name: --run")

        # The note comes after the objects: a refused run must leave no note of a cluster that does not have
        # it.
        spec, text, new = self.apply(spec)
        if new and not spec.on_a_checkpoint:
            directories.write_submission(path, spec, text)
        elif path.is_dir():
            write_whole(layout.script_file(path, spec.step), text.encode())

        run = Run(str(spec.name), path, parse_record(spec.record(), "submission"), ())

        return Started(run=run, job_id=names.job_name(spec), new=new)

    def apply(self, spec: JobSpec) -> tuple[JobSpec, str, bool]:
        """Make the objects of ``spec``. Return the submitted spec, its manifest, and whether it is new."""
        kind, spec = self._submitted_as(spec)
        fallback = self._target.fallback
        if fallback is not None and kind is fallback.kind:
            return fallback.store(self._site, self._home).apply(spec)

        # All checks come before the objects are made: a refusal must leave nothing behind.
        self._check_order(spec)
        text = self._target.render(spec)
        api = self._clusters.api(spec.site)
        owner = api.user()
        self._warn_of_another(spec, owner)
        # An operator makes the pods much later, and its refusal would reach nobody. So a pod is tried now.
        admission.check(api, spec, pod_of(spec, kind), tell)
        new = submission.submit(
            api,
            kind,
            text,
            replace_ended=spec.on_a_checkpoint,
            owner=owner,
            prepare=functools.partial(ship_code, api, spec, tell),
        )
        # The last look at the namespace shows it without this job.
        self._clusters.forget_answers()

        return spec, text, new

    def _warn_of_another(self, spec: JobSpec, user: str) -> None:
        """Name the owner of the run that a job on a checkpoint writes into, if it is another user."""
        if not spec.on_a_checkpoint:
            return

        thing = self._clusters.api(spec.site).get(
            CONFIG_MAP, spec.site.kubernetes.namespace, names.object_name(str(spec.run))
        )
        owner = ((thing or {}).get("metadata", {}).get("annotations") or {}).get(OWNER_MARK, "")
        if owner and user and owner != user:
            tell(f"run '{spec.run}' belongs to {owner}; {spec.step} writes into its directory")

    def _submitted_as(self, spec: JobSpec) -> tuple[Kind, JobSpec]:
        """Return the kind of job for ``spec`` in this cluster, and ``spec`` for the target of that kind."""
        kind = submission.served_kind(self._clusters.api(spec.site), spec, self._target.kind)
        fallback = self._target.fallback
        if fallback is not None and kind is fallback.kind:
            spec = msgspec.structs.replace(spec, target=fallback.name)

        return kind, spec

    def _check_order(self, spec: JobSpec) -> None:
        """Kubernetes has no dependencies between jobs, so those that come before must have finished."""
        for name in spec.after:
            run = self.find(name)
            state = self._target.statuses([run])[0].state if run else "unknown"
            if state != "finished":
                raise UserError(
                    f"run '{name}' is {state}, and a job on Kubernetes cannot wait for another job",
                    hint=f"jobctl wait {name} && jobctl submit …",
                    code=1,
                )

    def resume(self, run: Run, trusted: Sequence[str] = (), edit: Edit | None = None) -> str:
        """Render the job again from the run's record, start another attempt with it, and return its name.

        Nodes that were dead or unfit are avoided. Raises UserError for the run of another user who is not
        among the ``trusted``, and where a dead node still holds pods of the run.
        """
        api = self._clusters.api_of(run)
        namespace = run.record.spec.site.kubernetes.namespace
        thing = api.get(CONFIG_MAP, namespace, names.object_name(run.name))
        if thing is None:
            raise config_maps.no_record(run)

        marks = thing["metadata"].get("annotations") or {}
        check_owner(run, marks.get(OWNER_MARK, ""), api.user(), trusted)

        text = thing["data"]["run.json"]
        text = text if edit is None else with_edit(text, edit)
        # Another host may have edited the run: the cluster's record knows, and this host's note does not.
        edits = parse_record(text, f"ConfigMap {thing['metadata']['name']}").edits
        record = msgspec.structs.replace(run.record, edits=edits)
        avoided = self._avoided(run, marks)
        spec = avoiding(record.spec_to_resume(trusted), avoided)

        # The record goes along: the new pods must find the edited settings, not those of the last attempt.
        made = submission.restart(api, self._target.render(spec), text)
        self._clusters.forget_answers()
        if avoided:
            api.annotate(CONFIG_MAP, namespace, made, avoid=",".join(avoided))
            tell(f"note: the pods avoid {', '.join(avoided)}")

        # The cluster's record counts. The note of this host follows it, once the edit is in force.
        if edit is not None:
            self._note_edit(run, edit)

        return made

    def _avoided(self, run: Run, marks: Mapping[str, str]) -> list[str]:
        """Return the nodes that another attempt avoids. Remove the pods of vanished nodes.

        Raises UserError for pods of nodes that do not answer: they keep their names, which the new pods want.
        """
        api = self._clusters.api_of(run)
        pods = self._clusters.look([run], fresh=True).pods_of(run)
        # First remove pods that surely do not run. The others may still write into the run's directory.
        removed = remove_dead(api, run.record.spec.site.kubernetes.namespace, pods, force=False)
        gone = [dead.pod for dead in removed]
        if stay := dead_pods(api, [pod for pod in pods if pod not in gone]):
            raise cannot_go(names.job_name(run.record.spec), run.name, stay)

        return avoided_nodes(marks, pods, removed)

    def _note_edit(self, run: Run, edit: Edit) -> None:
        """Add ``edit`` to the note of the run on this host, if one exists."""
        note = layout.run_dir(self._home, run.name)
        if layout.record_file(note).is_file():
            directories.write_edit(note, edit)

    # ---- a running job

    def await_change(self, run: Run, seconds: float) -> None:
        """Wait until the run's job changes, or ``seconds`` have passed."""
        api = self._clusters.api_of(run)
        namespace = run.record.spec.site.kubernetes.namespace
        started = time.monotonic()

        try:
            jobs = self._clusters.look([run], fresh=True).jobs_of(run)
            kind = jobs[-1][0] if jobs else self._target.kind
            selector = label_selector(names.selector(run.path.name))
            # The watch begins at the version of this list, so no change in between is missed.
            listed, version = api.list_at(kind, namespace, labelSelector=selector)
            if not all(ended(job) for job in listed) or not listed:
                api.wait_for_change(kind, namespace, since=version, seconds=seconds, labelSelector=selector)
        except UserError:  # the right to watch may be missing; the next look reports other errors
            time.sleep(min(cluster.ANSWER_SECONDS, seconds))

        # A watch that is cut at once must not make the caller ask without a pause.
        time.sleep(max(0.0, min(cluster.ANSWER_SECONDS, seconds) - (time.monotonic() - started)))
        self._clusters.forget_answers()

    def request_stop(self, run: Run) -> None:
        """Create STOP in the run directory, by the first pod.

        Where not all pods of a training run, none of them trains, and there is nothing to checkpoint.
        """
        from jobctl.k8s.commands import Command

        spec = run.record.spec
        pods = [pod for pod in self._clusters.find(run, fresh=True).pods_of(run) if pod.running]
        if not run.job_kind.checkpoints or len(pods) < spec.resources.nodes:
            self._target.delete(run, grace_seconds=None)
            return

        # Before the stop: the pods may end at once, and a status must then say "cancelled" and not "stopped".
        self._target.mark_cancelled(run, self._clusters.look([run]).newest_job(run))
        api = self._clusters.api_of(run)
        words = ["bash", "-c", _STOP, "stop", run.name]

        try:
            # One pod is enough: the file is on the volume, where all ranks look for it.
            Command(api, spec.site.kubernetes.namespace, pods[0].name, pods[0].container, words).finish()
        except (UserError, ConnectionError):  # deleting it runs the hook that creates STOP as well
            self._target.delete(run, grace_seconds=None)

        self._clusters.forget_answers()

    def all_logs(self, run: Run, *, attempt: int | None, follow: bool) -> Iterator[str]:
        """Yield the lines of every rank of every pod as they arrive. Pods keep only the newest attempt."""
        from jobctl.k8s.logs import all_logs

        spec = run.record.spec
        api = self._clusters.api_of(run)
        return all_logs(
            api, spec.site.kubernetes.namespace, self._target.looker(run), spec.resources.nodes, follow
        )

    def collect(self, run: Run, into: Path) -> Mapping[str, int]:
        """Copy the run directory from the volume. Return counts of files: all, copied, and changed."""
        from jobctl.k8s.collect import collect

        # Before a pod is made: without the run there is nothing to read.
        self._clusters.find(run)
        spec = run.record.spec
        return collect(self._clusters.api_of(run), spec.site, run.path.name, spec.image, into)


def _is_a_note(run: Run) -> bool:
    """Return whether the record on this host only says which cluster keeps the run's own record."""
    return target_entry(run.target).keeps_records

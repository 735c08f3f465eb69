"""Remove runs: their folders, by a pod that mounts the volume, and their objects in the namespace."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import msgspec

from jobctl.jobs.core import layout
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.runs.store import Run
from jobctl.k8s import volume
from jobctl.k8s.commands import BEAT, Command
from jobctl.k8s.listing import LISTING_BYTES
from jobctl.k8s.manifest import ROOT
from jobctl.k8s.names import RUN_ANNOTATION, selector
from jobctl.k8s.ownership import check_owner, tell
from jobctl.k8s.resources import CONFIG_MAP, POD, Object, label_selector
from jobctl.k8s.status import OWNER_MARK, ended
from jobctl.k8s.volume import VolumePod

if TYPE_CHECKING:
    from jobctl.k8s.api import Api
    from jobctl.k8s.cluster import Cluster, Clusters

_ENTER = (
    BEAT + '[ -d "$1" ] || exit 0; cd -P -- "$1"; '
    # Anyone who may write the volume can replace a folder by a link.
    '[ "$PWD" = "$1" ] || { echo "$1 is reached over a link, so nothing is removed there" >&2; exit 1; }; '
    'if [ -L "$2" ]; then echo "$1/$2 is a link, and is not removed" >&2; exit 1; fi; '
)
_SIZES = (
    _ENTER
    + 'for each in "$2" ".$2.removed"; do [ ! -d "$each" ] || find "./$each" -xdev -type f -printf "%s\\n"; done'
)
_REMOVE = _ENTER + (
    # Another name first: a removal that is interrupted leaves no run with half of its files.
    'rm -rf -- ".$2.removed"; [ ! -d "$2" ] || mv -T -- "$2" ".$2.removed"; rm -rf -- ".$2.removed"'
)
"""Bash that takes the path of a folder and the name of one in it."""


class _Volume(msgspec.Struct, frozen=True):
    """A volume that several runs share."""

    context: str
    namespace: str
    claim: str


def check_removable(api: Api, cluster: Cluster, run: Run, trusted: Sequence[str]) -> None:
    """Raise UserError for a run of an untrusted user, and for a run that is still at work."""
    check_owner(run, cluster.marks_of(run).get(OWNER_MARK, ""), api.user(), trusted)
    if busy := cluster.at_work():
        raise UserError(
            f"run '{run.name}' is at work: {', '.join(busy)}", hint=f"jobctl cancel {run.name}", code=1
        )


@contextlib.contextmanager
def removing(clusters: Clusters, runs: Sequence[Run]) -> Iterator[Removing]:
    """Make a pod for each volume of the runs, and remove the pods at the end of the block."""
    with contextlib.ExitStack() as stack:
        pods: dict[_Volume, str] = {}
        for run in runs:
            key = _volume_of(run)
            if key not in pods:
                spec = run.record.spec
                wanted = VolumePod(site=spec.site, run=run.path.name, image=spec.image, writes=True)
                pods[key] = stack.enter_context(volume.running(clusters.api_of(run), wanted, tell))

        yield Removing(clusters, pods)


def _volume_of(run: Run) -> _Volume:
    section = run.record.spec.site.kubernetes
    return _Volume(section.context, section.namespace, section.pvc)


class Removing:
    """Removes the files of runs, by pods that mount their volumes."""

    def __init__(self, clusters: Clusters, pods: dict[_Volume, str]) -> None:
        self._clusters = clusters
        self._pods = pods

    def size(self, run: Run, checkpoints: bool) -> int:
        """Return the bytes of a run's folder on the volume, or of its checkpoints alone."""
        return sum(int(line) for line in self._run(run, _SIZES, checkpoints).split())

    def remove(self, run: Run, checkpoints: bool) -> None:
        """Remove the folder and then the record, or the checkpoints alone.

        The record goes last: after an interruption the run is still known, and can be removed again.
        """
        self._run(run, _REMOVE, checkpoints)
        if not checkpoints:
            self._forget(run)

    def _run(self, run: Run, script: str, checkpoints: bool) -> bytes:
        name = run.path.name
        # The name becomes a part of a path that is removed.
        if not layout.RUN_NAME.fullmatch(name):
            raise UserError(f"{name!r} is not the name of a run")

        runs = f"{ROOT}/runs"
        place = (f"{runs}/{name}", "checkpoints") if checkpoints else (runs, name)
        words = ["bash", "-c", f"set -e; {script}", "remove", *place]
        namespace = run.record.spec.site.kubernetes.namespace
        pod = self._pods[_volume_of(run)]
        try:
            return Command(self._clusters.api_of(run), namespace, pod, "writer", words).finish(LISTING_BYTES)
        except ConnectionError as error:
            raise UserError(
                f"the connection to the volume broke: {error}", hint="try again to remove the rest", code=1
            ) from None

    def _forget(self, run: Run) -> None:
        """Delete the ended jobs, pods and records of a run and of the jobs on its checkpoint."""
        api = self._clusters.api_of(run)
        namespace = run.record.spec.site.kubernetes.namespace
        cluster = self._clusters.look([run], fresh=True)
        # Jobs go first, or their operators would make the pods again.
        for kind, job in cluster.jobs:
            if ended(job) and _is_of(job, run):
                api.delete(kind, namespace, job["metadata"]["name"])

        labels = label_selector(selector(run.path.name))
        for pod in api.list_all(POD, namespace, labelSelector=labels):
            if _is_of(pod, run):
                api.delete(POD, namespace, pod["metadata"]["name"])

        records = [r for r in api.list_all(CONFIG_MAP, namespace, labelSelector=labels) if _is_of(r, run)]
        # In reverse, so that the record of RUN--eval goes before that of the run.
        for record in sorted(records, key=lambda thing: thing["metadata"]["name"], reverse=True):
            api.delete(CONFIG_MAP, namespace, record["metadata"]["name"])

        self._clusters.forget_answers()


def _is_of(thing: Object, run: Run) -> bool:
    annotations = thing["metadata"].get("annotations") or {}
    return bool(annotations.get(RUN_ANNOTATION) == run.path.name)

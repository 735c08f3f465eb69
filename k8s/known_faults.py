"""The operators of a cluster, their versions, and the known faults of these versions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import yaml

from jobctl.jobs.targets.protocol import Trouble
from jobctl.k8s.diagnosis import PAGE
from jobctl.k8s.refusals import Refused
from jobctl.k8s.resources import DEPLOYMENTS, PYTORCHJOB, TRAINJOB, Kind

if TYPE_CHECKING:
    from jobctl.k8s.api import Api

OPERATORS: dict[str, str] = {
    "training operator": "training-operator",
    "Kubeflow Trainer": "kubeflow-trainer-controller-manager",
    "JobSet": "jobset-controller-manager",
    "Kueue": "kueue-controller-manager",
}
"""The Deployment of each operator, as its authors call it."""

_SERVERS = {PYTORCHJOB: "training operator", TRAINJOB: "Kubeflow Trainer"}

_FILE = Path(__file__).parent / "known_faults.yaml"
_VERSION = re.compile(r"v?(\d+(?:\.\d+)+)")


class Running(NamedTuple):
    """An operator as a cluster runs it."""

    image: str = ""
    """Empty if the user may not see it."""

    @property
    def tag(self) -> str:
        """Return the tag of its image; empty if it has none."""
        # A digest follows an @, and a registry may have a port after a colon.
        name = self.image.partition("@")[0].rpartition("/")[2]
        return name.partition(":")[2]

    @property
    def version(self) -> tuple[int, ...]:
        """Return the numbers of its release; empty if its image's tag is not a release."""
        release = _VERSION.match(self.tag)
        return _numbers(release[1]) if release else ()


class KnownFault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One fault of an operator; ``known_faults.yaml`` explains the fields."""

    operator: str
    fault: str
    since: str = ""
    fixed: str = ""
    kind: str = ""
    in_queue: bool = False
    finding: bool = False
    says: str
    answer: str

    def is_in(self, version: tuple[int, ...]) -> bool:
        """Return whether ``version`` surely has the fault. For an unknown version the answer is no."""
        if not version:
            return not self.since and not self.fixed

        return _numbers(self.since) <= version and not (self.fixed and version >= _numbers(self.fixed))

    def touches(self, kind: str, queue: str) -> bool:
        """Return whether jobs of ``kind`` in ``queue`` meet it."""
        return self.kind in ("", kind) and (bool(queue) or not self.in_queue)


def known_faults() -> list[KnownFault]:
    """Return all faults that this version of jobctl knows of."""
    return msgspec.convert(yaml.safe_load(_FILE.read_text()), list[KnownFault])


def read_operators(api: Api, kinds: Iterable[Kind]) -> dict[str, Running]:
    """Return the operators of a cluster, by their names in ``OPERATORS``.

    Who may not see Deployments knows of those that serve ``kinds`` that they run, and no version.
    """
    running = {_SERVERS[kind]: Running() for kind in kinds if kind in _SERVERS}
    for operator, name in OPERATORS.items():
        try:
            # An administrator may choose another namespace, but seldom another name.
            deployments = api.list_all(DEPLOYMENTS, "", fieldSelector=f"metadata.name={name}")
        except Refused:  # no right to see Deployments
            continue

        for deployment in deployments:
            containers = deployment["spec"]["template"]["spec"]["containers"]
            running[operator] = Running(str(containers[0].get("image", "")))

    return running


def faults_of(running: Mapping[str, Running], kind: str, queue: str) -> list[tuple[KnownFault, Running]]:
    """Return the faults of the operators that run, for jobs of ``kind`` in ``queue`` (empty: in none)."""
    return [
        (fault, running[fault.operator])
        for fault in known_faults()
        if fault.operator in running
        if fault.touches(kind, queue) and fault.is_in(running[fault.operator].version)
    ]


def troubles_of(faults: Iterable[tuple[KnownFault, Running]]) -> list[Trouble]:
    """Return the faults that make jobs fail."""
    return [
        Trouble(
            check="known-fault",
            cause=f"{_title(fault.operator, running)}: {fault.says}",
            evidence=f"{fault.fault}; the cluster runs {running.image}",
            remedy=fault.answer,
            page=PAGE,
        )
        for fault, running in faults
        if fault.finding
    ]


def notes_of(running: Mapping[str, Running], faults: Iterable[tuple[KnownFault, Running]]) -> list[str]:
    """Return the running versions, and the faults that do not always make jobs fail."""
    versions = [
        _title(operator, running[operator]) for operator in OPERATORS if running.get(operator, Running()).tag
    ]
    notes = [f"the cluster runs {', '.join(versions)}"] if versions else []
    notes += [
        f"{_title(fault.operator, version)}: {fault.says} ({fault.fault}); {fault.answer}"
        for fault, version in faults
        if not fault.finding
    ]

    return notes


def _title(operator: str, running: Running) -> str:
    return f"{operator} {running.tag}".rstrip()


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")) if version else ()

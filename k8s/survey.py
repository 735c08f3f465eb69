"""What a Kubernetes cluster has of the names that a site file holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobctl.jobs.catalog.schema.site import Site
from jobctl.jobs.targets.protocol import Offer, Survey
from jobctl.k8s.refusals import Refused
from jobctl.k8s.resources import CLAIM, LOCAL_QUEUE, NODE, Kind

if TYPE_CHECKING:
    from jobctl.k8s.api import Api


def survey(api: Api, site: Site) -> Survey:
    """Ask a cluster for claims, queues and GPUs; what the user may not see is a note."""
    section = site.kubernetes
    notes: list[str] = []
    claims = _names(api, CLAIM, section.namespace, notes)
    queues = _names(api, LOCAL_QUEUE, section.namespace, notes)
    products = _products(api, section.gpu_product_label, notes)

    return Survey(
        offers=(
            Offer(key="kubernetes.pvc", values=tuple(claims), chosen=_only(claims)),
            Offer(key="kubernetes.queue", values=tuple(queues), chosen=_only(queues)),
            Offer(key="kubernetes.gpu_product", values=tuple(products)),
        ),
        notes=tuple(notes),
    )


def _names(api: Api, kind: Kind, namespace: str, notes: list[str]) -> list[str]:
    try:
        return sorted(str(thing["metadata"]["name"]) for thing in api.list_all(kind, namespace))
    except Refused as refusal:
        notes.append(f"{kind.plural} of namespace {namespace} are not known: {refusal.message}")
        return []


def _products(api: Api, label: str, notes: list[str]) -> list[str]:
    try:
        nodes = api.list_all(NODE, "")
    except Refused as refusal:
        notes.append(f"the GPUs are not known: {refusal.message}")
        return []

    return sorted({(node["metadata"].get("labels") or {}).get(label, "") for node in nodes} - {""})


def _only(names: list[str]) -> str:
    return names[0] if len(names) == 1 else ""

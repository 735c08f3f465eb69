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
    offers = [
        *_named(api, CLAIM, "kubernetes.pvc", section.namespace, section.pvc, notes),
        *_named(api, LOCAL_QUEUE, "kubernetes.queue", section.namespace, section.queue, notes),
        *_products(api, section.gpu_product_label, notes),
    ]

    return Survey(offers=tuple(offers), notes=tuple(notes))


def _named(api: Api, kind: Kind, key: str, namespace: str, name: str, notes: list[str]) -> list[Offer]:
    """Return the objects of a kind. A user who may not list them may still look up the site's own name."""
    try:
        names = sorted(str(thing["metadata"]["name"]) for thing in api.list_all(kind, namespace))
        return [Offer(key=key, values=tuple(names), chosen=names[0] if len(names) == 1 else "")]
    except Refused as refusal:
        notes.append(f"{kind.plural} of namespace {namespace} cannot be listed: {refusal.message}")

    try:
        exists = bool(name) and api.get(kind, namespace, name) is not None
    except Refused:
        return []

    return [Offer(key=key, values=(name,) if exists else (), chosen=name if exists else "")] if name else []


def _products(api: Api, label: str, notes: list[str]) -> list[Offer]:
    try:
        nodes = api.list_all(NODE, "")
    except Refused as refusal:
        notes.append(f"the GPUs cannot be listed: {refusal.message}")
        return []

    products = sorted({(node["metadata"].get("labels") or {}).get(label, "") for node in nodes} - {""})
    return [Offer(key="kubernetes.gpu_product", values=tuple(products))]

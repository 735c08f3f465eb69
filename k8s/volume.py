"""A pod that lives only so that commands in it reach the files of the volume."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import msgspec
import yaml

from jobctl.jobs.catalog.schema import Site
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.core.patience import Spell
from jobctl.jobs.render import render_template
from jobctl.k8s.manifest import ROOT
from jobctl.k8s.names import COMPONENT, MANAGED_BY, MAX_NAME, object_name
from jobctl.k8s.pods import read_pod
from jobctl.k8s.refusals import Refused
from jobctl.k8s.resources import POD

if TYPE_CHECKING:
    from jobctl.k8s.api import Api

LIFETIME_SECONDS = 6 * 3600
START_SECONDS = 1800.0
"""Seconds for a pod to start. Its image is as large as the job's, and its node may not have it."""
HOPELESS_SECONDS = 600.0
"""Seconds that it may wait for a person, for example with a missing image. A registry may be down for a moment."""
POLL_SECONDS = 0.5


class VolumePod(msgspec.Struct, frozen=True, kw_only=True):
    """A pod that mounts the volume and does nothing, so that commands in it reach the files of ``run``."""

    site: Site
    run: str
    image: str
    writes: bool = False
    """Whether the volume is mounted for writing."""

    @property
    def container(self) -> str:
        """The name of its container, and the component that its label names."""
        return "writer" if self.writes else "reader"


@contextlib.contextmanager
def running(api: Api, wanted: VolumePod, tell: Callable[[str], None]) -> Iterator[str]:
    """Make the pod, and yield its name when it runs; it is gone when the block is left."""
    site = wanted.site
    # A name of its own each time: two commands may read one run at the same moment.
    name = f"{object_name(wanted.run)[:MAX_NAME]}-{wanted.container}-{secrets.token_hex(3)}"
    context = {
        "name": name,
        "site": site,
        "image": wanted.image,
        "root": ROOT,
        "lifetime": LIFETIME_SECONDS,
        "container": wanted.container,
        "writes": wanted.writes,
        "labels": {
            MANAGED_BY: "jobctl",
            "app.kubernetes.io/name": "jobctl",
            COMPONENT: wanted.container,
        },
    }
    try:
        api.create(POD, yaml.safe_load(render_template("kubernetes/volume_pod.yaml.j2", context)))
    except Refused as refusal:
        if refusal.status != 409:  # it is there: our own, and the answer was lost
            raise

    try:
        # Within the try: a pod that never runs is removed as well.
        _wait_until_running(api, site.kubernetes.namespace, name, tell)
        yield name
    finally:
        try:
            # Nothing in the pod is worth waiting for.
            api.delete(POD, site.kubernetes.namespace, name, grace_seconds=0)
        except UserError as problem:
            tell(f"{problem.message}; the pod ends by itself in {LIFETIME_SECONDS // 3600} hours")


def _wait_until_running(api: Api, namespace: str, name: str, tell: Callable[[str], None]) -> None:
    deadline = time.monotonic() + START_SECONDS
    told = ""
    hopeless = Spell()
    while True:
        thing = api.get(POD, namespace, name)
        if thing is None:
            raise UserError(f"pod {name} was deleted before it ran", code=1)

        pod = read_pod(thing)
        if pod.running:
            return

        # A registry may be away for a moment, so the state has to last before it counts as hopeless.
        waits = hopeless.seconds(pod.waits_for_ever)
        is_hopeless = waits is not None and waits >= HOPELESS_SECONDS
        if pod.exit_code is not None or is_hopeless or time.monotonic() > deadline:
            raise UserError(f"pod {name} does not run: {pod.last_words or pod.waiting or pod.phase}", code=1)

        if (why := pod.waiting or pod.phase) != told:
            told = why
            tell(f"waiting for pod {name}: {told}")

        time.sleep(POLL_SECONDS)

"""Reach a run from this host.

Settings of its site may have other names here, such as the kubeconfig's context.
"""

from __future__ import annotations

import msgspec

from jobctl.jobs.runs.store import Run


def at_site(run: Run, **settings: str) -> Run:
    """Return ``run`` with other settings of its cluster, such as another context of the kubeconfig."""
    site = run.record.spec.site
    site = msgspec.structs.replace(site, kubernetes=msgspec.structs.replace(site.kubernetes, **settings))
    spec = msgspec.structs.replace(run.record.spec, site=site)
    return msgspec.structs.replace(run, record=msgspec.structs.replace(run.record, spec=spec))

"""A run as this host reaches it: by settings of its site that may have other names elsewhere."""

from __future__ import annotations

import msgspec

from jobctl.jobs.runs.store import Run


def at_site(run: Run, **settings: str) -> Run:
    """Return ``run`` as it is reached by other settings of the cluster, such as another context of the kubeconfig."""
    site = run.record.spec.site
    site = msgspec.structs.replace(site, kubernetes=msgspec.structs.replace(site.kubernetes, **settings))
    spec = msgspec.structs.replace(run.record.spec, site=site)
    return msgspec.structs.replace(run, record=msgspec.structs.replace(run.record, spec=spec))

"""The place of a run: how this host reaches it, and whether its directory is the one in its record.

Settings of its site may have different names here, such as the context of the kubeconfig.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from jobctl.jobs.core import layout
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.runs.store import Run


def at_site(run: Run, **settings: str) -> Run:
    """Return ``run`` with other settings of its cluster, such as another context of the kubeconfig."""
    site = run.record.spec.site
    site = msgspec.structs.replace(site, kubernetes=msgspec.structs.replace(site.kubernetes, **settings))
    spec = msgspec.structs.replace(run.record.spec, site=site)
    return msgspec.structs.replace(run, record=msgspec.structs.replace(run.record, spec=spec))


def check_place(run: Run) -> None:
    """Raise UserError for a directory that was copied or renamed: its job would write into the recorded one.

    A cluster may mount the root at another path. So it proves nothing if this host lacks the recorded
    directory.
    """
    spec = run.record.spec
    recorded = layout.run_dir(Path(spec.site.root), spec.run or run.path.name)
    elsewhere = recorded.is_dir() and run.path.is_dir() and not recorded.samefile(run.path)
    if recorded.name == run.path.name and not elsewhere:
        return

    raise UserError(
        f"{run.path} was copied or renamed: its job would write into {recorded}",
        hint="move it back; or start a new run from its weights: jobctl submit --set "
        f"init_from=run:{run.path}",
        code=1,
    )

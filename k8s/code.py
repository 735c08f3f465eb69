"""``--patch`` on a cluster: copy the source tree to the volume before making the pods that run it."""

from __future__ import annotations

import hashlib
import io
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from jobctl.jobs.core.amounts import short_bytes
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.core.patience import retry
from jobctl.jobs.spec.job_spec import JobSpec
from jobctl.jobs.spec.patch import ship
from jobctl.k8s import volume
from jobctl.k8s.commands import BEAT, Command
from jobctl.k8s.volume import VolumePod

if TYPE_CHECKING:
    from jobctl.k8s.api import Api

TRIES = 3
"""Attempts to send the tree while connections break."""
_RECEIVE = BEAT + (
    'set -e; aside=${1%/*}/.${1##*/}; mkdir -p "${1%/*}"; rm -rf "$aside" "$aside.tar"; '
    # Nothing closes the input of a command in a pod, so its length says where it ends.
    'head -c "$2" >"$aside.tar"; '
    'printf "%s  %s\\n" "$3" "$aside.tar" | sha256sum --check --quiet >&2; '
    'mkdir "$aside"; tar --extract --no-same-owner --file="$aside.tar" --directory="$aside"; '
    'sync -f "$aside"; rm -rf "$1" "$aside.tar"; mv "$aside" "$1"'
)
"""Bash that takes the folder's path, the archive's size and its SHA-256, and the archive from its input."""


def ship_code(api: Api, spec: JobSpec, tell: Callable[[str], None]) -> None:
    """Copy the tree of a patched job to its folder on the volume, through a pod of the job's image.

    Raises UserError where the tree is no checkout, the pod does not run, or connections break again and
    again.
    """
    if not spec.patch:
        return

    archive = packed(Path(spec.patch.tree))
    tell(f"copying {short_bytes(len(archive))} of code to {spec.site.project_dir} on the volume")
    wanted = VolumePod(site=spec.site, run=str(spec.run), image=spec.image, writes=True)
    with volume.running(api, wanted, tell) as pod:
        _send_patiently(api, spec, pod, archive)


def packed(tree: Path) -> bytes:
    """Return a tar of the sources of an image. It does not depend on the user or the time."""
    with tempfile.TemporaryDirectory(prefix="jobctl-") as folder:
        code = Path(folder) / "code"
        ship(tree, code)
        output = io.BytesIO()
        with tarfile.open(fileobj=output, mode="w") as archive:
            # Sorted and without traces: the same tree gives the same archive.
            for path in sorted(code.rglob("*")):
                name = str(path.relative_to(code))
                archive.add(path, arcname=name, recursive=False, filter=_without_traces)

    return output.getvalue()


def _without_traces(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = 0
    member.gid = 0
    member.uname = ""
    member.gname = ""
    member.mtime = 0
    member.mode = 0o755 if member.isdir() else 0o644
    return member


def _send_patiently(api: Api, spec: JobSpec, pod: str, archive: bytes) -> None:
    """Send the archive until it has arrived whole. Raises UserError after ``TRIES`` broken connections."""
    try:
        retry(
            lambda: _send(api, spec, pod, archive),
            lambda error: isinstance(error, ConnectionError),
            tries=TRIES,
            first_pause=volume.POLL_SECONDS,
        )
    except ConnectionError as error:
        raise UserError(
            f"the code cannot be copied to the volume: {error}",
            hint="nothing was submitted; try again",
            code=1,
        ) from None


def _send(api: Api, spec: JobSpec, pod: str, archive: bytes) -> None:
    digest = hashlib.sha256(archive).hexdigest()
    words = ["bash", "-c", _RECEIVE, "receive", spec.site.project_dir, str(len(archive)), digest]
    command = Command(api, spec.site.kubernetes.namespace, pod, "writer", words)
    command.write(archive)
    command.finish()

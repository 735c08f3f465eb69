"""A node's compile cache, for as long as its ranks run. Nothing that goes wrong here stops them."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, MutableMapping
from pathlib import Path

from jobctl.jobs.core.exit_codes import EXIT_CONTINUE, EXIT_FINISHED
from jobctl.jobs.core.node_folder import NodeFolder

SHARED = "JOBCTL_CACHE"
"""The shared folder. The job sets it; without it nothing is done."""
LIMIT = "JOBCTL_CACHE_GIB"
"""The most bytes in the shared folder."""
DEFAULT_LIMIT_GIB = 8.0
VARIABLES = {"TRITON_CACHE_DIR": "triton", "TORCHINDUCTOR_CACHE_DIR": "inductor"}
"""The variables of the compilers, and the folder of each. A variable that is already set stays."""
ROLE = "PET_RDZV_CONF"
OTHER_NODE = "is_host=0"
"""The value by which the job tells a node that it is not the first one."""
PREFIX = "jobctl-compiled-"
SEED_SECONDS = 60.0
PUBLISH_SECONDS = 20.0
"""Seconds for the copy. A job that is told to stop must end in time."""
LEAST_FREE = 1 << 30
GIB = 1 << 30


class NodeCache:
    """A folder of this node alone. Use it by ``open_cache``, and ``close`` it with the exit code of the ranks."""

    def __init__(self, folder: NodeFolder, shared: Path, limit: int) -> None:
        """``limit``: bytes."""
        self.local = folder.path
        self._folder = folder
        self._shared = shared
        self._limit = limit

    def seed(self) -> None:
        """Fill the folder from the shared one, for a minute at most."""
        # At most half of the free space: the compilers need room, too.
        room = min(self._limit, shutil.disk_usage(self.local).free // 2)
        if self._shared.is_dir() and room:
            _run("seed", self._shared, self.local, room, SEED_SECONDS)

    def close(self, code: int) -> None:
        """If the ranks ended well, copy new entries to the shared folder. Remove the node's folder.

        One node does so: all have compiled the same.
        """
        with contextlib.suppress(OSError):
            if os.environ.get(ROLE) != OTHER_NODE and code in (EXIT_FINISHED, EXIT_CONTINUE) and self._limit:
                _run("publish", self._shared, self.local, self._limit, PUBLISH_SECONDS)

        self._folder.close()


def open_cache(environment: MutableMapping[str, str]) -> NodeCache | None:
    """Make this node's cache and name it in ``environment``. Return None without a cache or without space.

    Without room the compilers get the shared folder itself: slower, and not safe against other nodes, but they run.
    """
    shared = environment.get(SHARED)
    names = [name for name in VARIABLES if not environment.get(name)]
    if not shared or not names:
        return None

    try:
        kind = Path(shared) / kind_of_node()
        local = _local_folder()
        for name in names:
            environment[name] = str((local.path if local else kind) / VARIABLES[name])

        if local is None:
            print("jobctl: no folder of this node has room for compiled kernels; they go to the shared one")
            return None

        cache = NodeCache(local, kind, int(limit_gib(environment) * GIB))
        cache.seed()
        return cache
    except (OSError, ValueError) as error:
        print(f"jobctl: compiled kernels cannot be kept: {error}", file=sys.stderr)
        return None


def limit_gib(environment: MutableMapping[str, str]) -> float:
    """Return the limit of the shared folder. An invalid number gives the default."""
    try:
        return max(0.0, float(environment.get(LIMIT, DEFAULT_LIMIT_GIB)))
    except ValueError:
        return DEFAULT_LIMIT_GIB


def kind_of_node() -> str:
    """Return what compiled code depends on: versions, the C library, the processor's instructions.

    The compilers' own keys have the GPU and the source. A stub that was linked with a newer C library, or a loop with
    instructions that this processor lacks, would end a rank.
    """
    versions = [f"{name}{_version(name)}" for name in ("torch", "triton")]
    parts = [f"py{platform.python_version()}", *versions, "".join(platform.libc_ver()), platform.machine()]
    # The result is the name of one folder.
    return "-".join([*parts, _instructions()]).replace("/", "_")


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "0"


def _instructions() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []

    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return hashlib.sha256(flags.encode()).hexdigest()[:8]


def _local_folder() -> NodeFolder | None:
    """Make a folder on a disk of this node that has room, and from which code may be loaded."""
    for place in _places():
        with contextlib.suppress(OSError):
            fits = shutil.disk_usage(place).free >= LEAST_FREE
            if fits and not os.statvfs(place).f_flag & os.ST_NOEXEC:
                return NodeFolder(PREFIX, place)

    return None


def _places() -> Iterator[Path]:
    # The user's folder comes first, and the one that takes memory comes last.
    for name in (os.environ.get("TMPDIR"), "/tmp", "/var/tmp", "/dev/shm"):
        if name and os.path.isdir(name):
            yield Path(name)


def _run(word: str, shared: Path, local: Path, limit: int, seconds: float) -> None:
    """Run one copy in a process of its own. One that takes longer is left to itself: it may hang in the kernel."""
    command = [
        sys.executable,
        "-m",
        "jobctl.trainer.compile_cache",
        word,
        str(shared),
        str(local),
        str(limit),
    ]
    # In a session of its own, so that a signal for the ranks does not cut a copy short.
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        _, said = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        print(
            f"jobctl: compiled kernels: {word} took more than {seconds:g} s, and was stopped",
            file=sys.stderr,
        )
        return

    if process.returncode:
        reason = said.strip().splitlines()[-1:] or [f"exit code {process.returncode}"]
        print(f"jobctl: compiled kernels: {word} failed: {reason[0]}", file=sys.stderr)

"""Slurm of other Debian releases: its programs in a folder of their own, out of the archive that this machine uses.

A release is fetched once, into the cache of the tests. Nothing of it is installed on this machine: its daemons and its
commands run with that folder as their root, in which this machine's /tmp and /dev are mounted.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.clusters.containers import CACHE, locked

PACKAGES = (
    *("slurmctld", "slurmd", "slurm-client", "slurmdbd"),
    # What the scripts of jobs call, and what the packages above need of a Debian.
    *(
        "base-files",
        "bash",
        "bsdutils",
        "coreutils",
        "dash",
        "findutils",
        "grep",
        "hostname",
        "iproute2",
        "libc-bin",
    ),
    *("mawk", "ncurses-base", "procps", "sed", "util-linux"),
)
COMMANDS = ("sacct", "sacctmgr", "salloc", "sbatch", "scancel", "scontrol", "sinfo", "squeue", "srun")
MARK = "jobctl-release"
"""A file in the folder of a whole release. A command that finds it at / is among the release's programs."""
FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/bash\n",
    "etc/group": "root:x:0:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
    "etc/hosts": "127.0.0.1 localhost\n",
    "etc/resolv.conf": "",
}


class Unavailable(Exception):
    """A release that cannot be had here; its text says why."""


def programs_of(release: str) -> Path:
    """Return the folder of a release, and make it where it is missing. Raises Unavailable."""
    folder = CACHE / f"slurm-{release}"
    with locked(folder.name):
        if (folder / MARK).exists():
            return folder

        shutil.rmtree(folder, ignore_errors=True)
        _fetch(release, folder)
        for name, text in FILES.items():
            (folder / name).write_text(text)

        _link_alternatives(folder)
        (folder / MARK).write_text(f"{release}\n")

    return folder


def write_commands(programs: Path, folder: Path, daemons: int) -> None:
    """Write Slurm's commands of a release into ``folder``, for callers on this machine and in jobs.

    ``daemons`` is a process in whose mounts the release is whole.
    """
    folder.mkdir()
    for name in COMMANDS:
        command = folder / name
        command.write_text(
            f'#!/bin/sh\n[ ! -e /{MARK} ] || exec /usr/bin/{name} "$@"\n'
            f'exec nsenter --target={daemons} --mount -- chroot {programs} /usr/bin/{name} "$@"\n'
        )
        command.chmod(0o755)


def mounts(programs: Path, *shared: Path) -> list[str]:
    """Return shell commands that make the release whole: this machine's devices, and folders under their own paths."""
    lines = [f"mount -t proc proc {programs}/proc"]
    for path in (Path("/dev"), Path("/sys"), *shared):
        lines += [f"mkdir -p {programs}{path}", f"mount --rbind {path} {programs}{path}"]

    return lines


def _fetch(release: str, folder: Path) -> None:
    if shutil.which("mmdebstrap") is None:
        raise Unavailable("mmdebstrap is not installed: apt-get install mmdebstrap")

    command = [
        *("mmdebstrap", "--variant=extract", f"--include={','.join(PACKAGES)}"),
        # A mirror that stands still is as good here.
        '--aptopt=Acquire::Check-Valid-Until "false"',
        '--aptopt=Acquire::Retries "3"',
        *(release, str(folder), _archive()),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        shutil.rmtree(folder, ignore_errors=True)
        said = "\n".join(line for line in done.stderr.splitlines() if line.startswith("E:"))
        raise Unavailable(
            f"Debian {release} cannot be had from this machine's archive: {said or done.stderr[-500:]}"
        )


def _link_alternatives(folder: Path) -> None:
    """Do what the packages' own scripts would: they run only where a package is installed."""
    (folder / "usr/bin/awk").symlink_to("mawk")
    for program in (*folder.glob("usr/sbin/*-wlm"), *folder.glob("usr/bin/*-wlm")):
        program.with_name(program.name.removesuffix("-wlm")).symlink_to(program.name)


def _archive() -> str:
    """Return the address of the Debian archive that this machine itself uses. Raises Unavailable."""
    form = "--format=$(REPO_URI) $(LABEL)"
    command = ["apt-get", "indextargets", form, "Created-By: Packages"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    except FileNotFoundError:
        raise Unavailable("this machine has no apt, so no archive of Debian is known") from None

    for line in said.splitlines():
        address, _, label = line.partition(" ")
        if label == "Debian":
            return address

    raise Unavailable("apt knows no archive of Debian: apt-get update")

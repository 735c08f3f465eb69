"""Real container engines for the tests: Podman with a store of its own, and a Docker daemon of its own.

Both work without a network, a registry or systemd, and inside a machine that is itself virtual. What is slow to
make, the base image and the layers of ours, is kept between test runs in one folder; parallel runs wait for each
other there.
"""

from __future__ import annotations

import fcntl
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROJECT = Path(__file__).parents[2]
CACHE = Path(os.environ.get("JOBCTL_TEST_CACHE", "/var/tmp/jobctl-tests"))
BASE = "localhost/jobctl-base:bookworm"
VARIANT = os.environ.get("JOBCTL_TEST_VARIANT", "cpu")
"""The variant of the image: `make test-image VARIANT=…` sets it. The GPU ones draw gigabytes, so CI has `cpu`."""
IMAGE = f"localhost/jobctl:test-{VARIANT}"
SHELL_IMAGE = "localhost/jobctl-shell:test"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
MOVED_LIMITS = ("nofile=20000:20000", "nproc=4096:4096")
"""Podman asks for more than a virtual machine's root may have."""


class Engine:
    """One engine, and the environment in which its client talks to it."""

    def __init__(self, name: str, env: dict[str, str]) -> None:
        self.name = name
        self.env = env

    def run(self, *arguments: str, check: bool = True, timeout: float = 120) -> str:
        """Standard output of one of the engine's commands; RuntimeError with all it said when it fails."""
        done = subprocess.run(
            [self.name, *arguments], env={**os.environ, **self.env}, text=True, capture_output=True, timeout=timeout,
            check=False,
        )  # fmt: skip
        if check and done.returncode:
            raise RuntimeError(
                f"{self.name} {' '.join(arguments)}: exit {done.returncode}: {done.stdout}{done.stderr}"
            )
        return done.stdout.strip()

    def has(self, image: str) -> bool:
        return bool(self.run("images", "--quiet", image))

    def load(self, image: str, archive: Path) -> None:
        """Make an image of a root file system, unless it is there."""
        if not self.has(image):
            self.run("import", str(archive), image)


def missing(*programs: str) -> str:
    """Why no engine can be started here; empty where it can."""
    if os.geteuid() != 0:
        return "containers need root"
    lacking = [program for program in programs if shutil.which(program, path=search_path()) is None]
    return f"not installed: {', '.join(lacking)}" if lacking else ""


def search_path() -> str:
    return f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin"


@contextmanager
def locked(name: str) -> Iterator[None]:
    """One test process at a time in what several must not do at once."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def podman() -> Engine:
    """Podman with its images in the cache; nothing has to be started."""
    with locked("podman"):
        limits = ", ".join(f'"{limit}"' for limit in MOVED_LIMITS)
        files = {
            "containers.conf": f'[containers]\ndefault_ulimits = [{limits}]\nnetns = "host"\n'
            '[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n',
            "storage.conf": f'[storage]\ndriver = "overlay"\nrunroot = "{CACHE}/run"\ngraphroot = "{CACHE}/images"\n',
            "policy.json": '{"default": [{"type": "insecureAcceptAnything"}]}',
        }
        for name, text in files.items():
            (CACHE / name).write_text(text)
        shell = shell_archive(CACHE / "shell.tar")
        engine = Engine(
            "podman",
            {
                "CONTAINERS_CONF": f"{CACHE}/containers.conf",
                "CONTAINERS_STORAGE_CONF": f"{CACHE}/storage.conf",
            },
        )
        engine.load(SHELL_IMAGE, shell)
    return engine


@contextmanager
def docker_daemon() -> Iterator[Engine]:
    """A Docker daemon that dies with this process; it can make no network, so its containers have none."""
    # Not pytest's tmp_path: a socket's path may have 108 bytes.
    folder = Path(tempfile.mkdtemp(prefix="jobctl-docker-", dir="/var/tmp"))
    address = f"unix://{folder}/docker.sock"
    command = [
        "setpriv", "--pdeathsig", "KILL", "dockerd", "--iptables=false", "--ip6tables=false", "--bridge=none",
        f"--data-root={folder}/data", f"--exec-root={folder}/exec", f"--pidfile={folder}/docker.pid",
        f"--host={address}",
    ]  # fmt: skip
    with (folder / "log").open("w") as log:
        daemon = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "PATH": search_path()})
    try:
        engine = Engine("docker", {"DOCKER_HOST": address})
        deadline = time.monotonic() + 60
        while not (folder / "docker.sock").exists() or not succeeds(engine, "ps"):
            if daemon.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"dockerd does not answer: {(folder / 'log').read_text()[-4000:]}")
            time.sleep(0.1)
        engine.load(SHELL_IMAGE, shell_archive(folder / "shell.tar"))
        yield engine
    finally:
        daemon.terminate()
        daemon.wait(timeout=60)
        for mount in mounts_below(folder):
            subprocess.run(["umount", "--lazy", mount], check=False)
        shutil.rmtree(folder, ignore_errors=True)


def mounts_below(folder: Path) -> list[str]:
    """What is still mounted below ``folder``, the innermost first."""
    points = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    return sorted((point for point in points if point.startswith(f"{folder}/")), key=len, reverse=True)


def succeeds(engine: Engine, *arguments: str) -> bool:
    try:
        engine.run(*arguments)
    except RuntimeError:
        return False
    return True


def shell_archive(path: Path) -> Path:
    """A root file system of two megabytes: a shell and its tools, for tests that are about the engine alone."""
    if path.exists():
        return path
    busybox = shutil.which("busybox", path=search_path())
    assert busybox is not None
    tools = subprocess.run([busybox, "--list"], text=True, capture_output=True, check=True).stdout.split()
    aside = path.with_suffix(f".{os.getpid()}")
    with tarfile.open(aside, "w") as archive:
        archive.add(busybox, "bin/busybox")
        for name in tools:
            if name != "busybox":
                link = tarfile.TarInfo(f"bin/{name}")
                link.type = tarfile.SYMTYPE
                link.linkname = "busybox"
                archive.addfile(link)
        for name, text in {"etc/passwd": "root:x:0:0::/:/bin/sh\n", "etc/group": "root:x:0:\n"}.items():
            file = tarfile.TarInfo(name)
            file.size = len(text)
            archive.addfile(file, io.BytesIO(text.encode()))
    aside.replace(path)
    return path


def build_image(
    engine: Engine, source: Path = PROJECT, tag: str = IMAGE, options: tuple[str, ...] = ()
) -> str:
    """The image of ``source``, built by the documented command on a base made of Debian's packages; its name."""
    with locked("image"):
        if not engine.has(BASE):
            archive = CACHE / "base.tar"
            subprocess.run(
                ["mmdebstrap", "--quiet", "--variant=minbase", "bookworm", str(archive)], check=True
            )
            engine.load(BASE, archive)
            archive.unlink()
        command = [sys.executable, "-m", "jobctl.docker.build", f"--variant={VARIANT}", f"--set=BASE={BASE}"]
        command += [f"--engine={engine.name}", f"--tag={tag}", *find_links()]
        command += [f"--ca={CERTIFICATES}"] if CERTIFICATES.exists() else []
        command += [f"--engine-option={option}" for option in options]
        done = subprocess.run(
            command,
            cwd=source,
            env={**os.environ, **engine.env, "PYTHONPATH": str(source / "src")},
            text=True,
            capture_output=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"the image cannot be built: {(done.stdout + done.stderr)[-6000:]}")
    return tag


def copy_image(image: str, source: Engine, target: Engine) -> None:
    """Unless it exists already."""
    if target.has(image):
        return
    # Not the cache, nor pytest's folder, which both outlive the test: it is more than a gigabyte.
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        source.run("save", "--format=docker-archive", f"--output={folder}/image.tar", image, timeout=300)
        target.run("load", f"--input={folder}/image.tar", timeout=300)


def find_links() -> list[str]:
    """Where this machine's own pip finds wheels that no index has."""
    asked = subprocess.run(
        [sys.executable, "-m", "pip", "config", "get", "global.find-links"],
        text=True,
        capture_output=True,
        check=False,
    )
    folder = asked.stdout.strip()
    return [f"--find-links={folder}"] if folder and Path(folder).is_dir() else []

"""``python -m jobctl.docker.build --variant cpu``: build one variant of the image with Docker, Podman or Buildah."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import jobctl
from jobctl.docker import variants
from jobctl.jobs.core.errors import UserError, run_command
from jobctl.jobs.runs.store import git_revision

SOURCE = Path(__file__).resolve().parent.parent
CERTIFICATES = "/run/build/ca.crt"
"""Where the Dockerfile mounts the certificate bundle during a RUN that fetches packages."""
WHEELS = "/run/build/wheels"
PINS_ONLY = ("FIND_LINKS", "TORCH_SHA256")
"""Settings of a variant that the Dockerfile does not take."""


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    settings = variants.read(options.variant) | dict(text.split("=", 1) for text in options.set)
    tag = options.tag or f"jobctl:{jobctl.__version__}-{options.variant}"
    engine = options.engine or find_engine()
    mounted = bool(options.find_links) and Path(options.find_links).is_dir()
    if mounted and Path(engine).name == "docker":
        raise UserError(
            "docker build cannot mount a folder of wheels", hint="--engine podman, or a URL as --find-links"
        )
    links = WHEELS if mounted else options.find_links or settings.get("FIND_LINKS", "")
    with pip_secrets(links, options.ca) as secrets:
        command = build_command(engine, options.variant, settings, tag)
        if mounted:
            command.append(f"--volume={options.find_links}:{WHEELS}:ro")
        code = subprocess.call(
            [*command, *secrets, *options.engine_option, str(SOURCE)],
            env={**os.environ, "DOCKER_BUILDKIT": "1"},
        )
    if code == 0:
        print(f"built {tag}")
    return code


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(prog="python -m jobctl.docker.build", description=__doc__)
    found.add_argument("--variant", default="cpu", metavar="NAME", help=", ".join(variants.NAMES))
    found.add_argument("--tag", metavar="REF", help="default: jobctl:VERSION-VARIANT")
    found.add_argument(
        "--engine", metavar="PROGRAM", help="docker, podman or buildah; default: the first that answers"
    )
    found.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="another value of the variant's file"
    )
    found.add_argument(
        "--find-links", metavar="FOLDER", help="wheels that no package index has; a folder is mounted"
    )
    found.add_argument("--ca", metavar="FILE", help="certificate bundle, where a proxy has one of its own")
    found.add_argument(
        "--engine-option", action="append", default=[], metavar="OPTION", help="handed on to the engine"
    )
    return found


def find_engine() -> str:
    """The first engine that answers, as the docker target looks for one."""
    for engine in filter(None, (os.environ.get("JOBCTL_ENGINE"), "docker", "podman", "buildah")):
        probe = ["images"] if engine.endswith("buildah") else ["ps"]
        if shutil.which(engine) and not subprocess.call([engine, *probe, "-q"], stdout=-3, stderr=-3):
            return engine
    raise UserError("neither docker, podman nor buildah answers on this machine", hint="start one of them")


def build_command(engine: str, variant: str, settings: dict[str, str], tag: str) -> list[str]:
    """The engine's words, without the secrets and the context."""
    arguments = {
        **{key: value for key, value in settings.items() if value and key not in PINS_ONLY},
        "BASE": variants.with_digest(settings, "BASE"),
        "CUDA_DEVEL": variants.with_digest(settings, "CUDA_DEVEL") or "scratch",
        "VARIANT": variant,
        "VERSION": jobctl.__version__,
        "REVISION": git_revision() or "unknown",
    }
    if settings["FLASH_ATTN"] == "wheel" and not settings["FLASH_ATTN_SHA256"]:
        # A file whose hash nobody knows is not installed; the sdist's hash is known.
        arguments["FLASH_ATTN"] = "source"
        print(
            f"{variant}: the flash-attn wheel is not pinned (make pin), so it is built from source",
            file=sys.stderr,
        )
    name = Path(engine).name
    command = [engine, "build"] if name != "buildah" else [engine, "bud", "--layers"]
    # The OCI image format has no HEALTHCHECK.
    command += [] if name == "docker" else ["--format=docker"]
    used = [f"--build-arg={key}={value}" for key, value in arguments.items() if not key.endswith("_DIGEST")]
    # Podman's layer cache does not see that an ARG of an ENV or LABEL has changed: the revision would be an old one.
    used.append(f"--label=org.opencontainers.image.revision={arguments['REVISION']}")
    return [*command, f"--file={SOURCE / 'docker' / 'Dockerfile'}", f"--tag={tag}", *used]


@contextmanager
def pip_secrets(find_links: str, ca: str | None) -> Iterator[list[str]]:
    """Options that show pip its configuration and the certificates while it runs; no layer keeps them."""
    with tempfile.TemporaryDirectory() as folder:
        lines = [
            "[global]",
            *([f"cert = {CERTIFICATES}"] if ca else []),
            *([f"find-links = {find_links}"] if find_links else []),
        ]
        config = Path(folder) / "pip.conf"
        config.write_text("\n".join(lines) + "\n", encoding="utf-8")
        yield [
            f"--secret=id=pipconf,src={config}",
            *([f"--secret=id=ca,src={ca}"] if ca else []),
        ]


if __name__ == "__main__":
    run_command(main, "jobctl.docker.build")

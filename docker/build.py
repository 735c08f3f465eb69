"""``python -m jobctl.docker.build --variant cpu``: build an image with Docker, Podman or Buildah."""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import jobctl
from jobctl.docker import variants
from jobctl.docker.pin import INDEX_DATE
from jobctl.jobs.core.errors import UserError, run_command
from jobctl.jobs.runs.revision import git_revision

SOURCE = Path(__file__).resolve().parent.parent
CERTIFICATES = "/run/build/ca.crt"
"""The path of the certificate bundle in the build.

The Dockerfile mounts it for a RUN that fetches packages.
"""
WHEELS = "/run/build/wheels"
"""The path of a folder of wheels in the build."""
PINS_ONLY = ("FIND_LINKS", "TORCH_SHA256")
"""Settings of a variant that are not for the Dockerfile."""
ARCHITECTURE = "x86_64"
_WHEEL = re.compile(r"(?P<url>[^#\s]+\.whl)#sha256=(?P<sha256>[0-9a-f]{64})")


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    check_architecture(platform.machine())

    settings = variants.read(options.variant) | dict(text.split("=", 1) for text in options.set)
    settings |= flash_attn_settings(options.flash_attn_wheel, options.variant)
    tag = options.tag or f"jobctl:{jobctl.__version__}-{options.variant}"
    engine = options.engine or find_engine()

    mounted = bool(options.find_links) and Path(options.find_links).is_dir()
    # BuildKit mounts only from contexts and caches; Podman and Buildah take a volume.
    if mounted and Path(engine).name == "docker":
        raise UserError(
            "docker build cannot mount a folder of wheels", hint="--engine podman, or a URL as --find-links"
        )

    links = WHEELS if mounted else options.find_links or settings.get("FIND_LINKS", "")

    with pip_secrets(links, options.ca) as secrets:
        command = build_command(engine, options.variant, settings, tag, source_date())
        if mounted:
            command.append(f"--volume={options.find_links}:{WHEELS}:ro")

        # The output is not captured: a build takes minutes, and a user follows it by its output.
        code = subprocess.call(
            [*command, *secrets, *options.engine_option, str(SOURCE)],
            # An older Docker builds without BuildKit by default, and then knows no --secret.
            env={**os.environ, "DOCKER_BUILDKIT": "1"},
        )

    if code == 0:
        print(f"built {tag}")

    return code


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(prog="python -m jobctl.docker.build", description=__doc__)
    result.add_argument("--variant", default="cpu", metavar="NAME", help=", ".join(variants.NAMES))
    result.add_argument("--tag", metavar="REF", help="default: jobctl:VERSION-VARIANT")
    result.add_argument(
        "--engine", metavar="PROGRAM", help="docker, podman or buildah; default: the first one that answers"
    )
    result.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="replace a value of the variant's file",
    )
    result.add_argument(
        "--flash-attn-wheel",
        default="",
        metavar="URL#sha256=HASH",
        help="also install this wheel of flash-attn, and import it; default: none",
    )

    result.add_argument(
        "--find-links", metavar="FOLDER", help="wheels that no package index has; a folder is mounted"
    )
    result.add_argument("--ca", metavar="FILE", help="certificate bundle, if a proxy has its own")
    result.add_argument(
        "--engine-option", action="append", default=[], metavar="OPTION", help="option for the engine"
    )

    return result


def check_architecture(machine: str) -> None:
    """Raise UserError on a machine with another processor than that of the pinned packages."""
    if machine != ARCHITECTURE:
        raise UserError(
            f"the images are for {ARCHITECTURE} hosts; this machine is {machine}",
            hint="on Grace hosts (GH200, GB200, GB300) install requirements/run.txt into a virtual environment "
            "and set container.runtime: none",
        )


def flash_attn_settings(wheel: str, variant: str) -> dict[str, str]:
    """Return the build arguments that install ``wheel``, or none for an empty text. Raises UserError."""
    if not wheel:
        return {}

    match = _WHEEL.fullmatch(wheel)
    if match is None:
        raise UserError(
            f"--flash-attn-wheel {wheel}: the URL has no SHA-256 at its end",
            hint="write the wheel as https://…/flash_attn-….whl#sha256=… (64 hexadecimal digits)",
        )

    # It is refused before the build: in the build the wheel would fail only at its import.
    if not variants.read(variant)["TORCH_CUDA"]:
        raise UserError(
            f"--flash-attn-wheel: the {variant} image has no CUDA", hint="--variant cu124 or cu132"
        )

    return {"FLASH_ATTN_WHEEL": match["url"], "FLASH_ATTN_SHA256": match["sha256"]}


def source_date() -> int:
    """Return the time stamp of the build in seconds since 1970: $SOURCE_DATE_EPOCH, or the date of the pins.

    It is not the date of the commit. Otherwise any change of the source would rebuild every layer.
    """
    given = os.environ.get("SOURCE_DATE_EPOCH")
    if given:
        return int(given)

    date = INDEX_DATE.read_text(encoding="utf-8").strip().replace("Z", "+00:00")
    return int(datetime.datetime.fromisoformat(date).timestamp())


def find_engine() -> str:
    """Return the first engine that answers, in the order of the docker target. Raises UserError."""
    # Being installed is not enough: Docker without a daemon, for example, cannot build.
    for engine in filter(None, (os.environ.get("JOBCTL_ENGINE"), "docker", "podman", "buildah")):
        probe = ["images"] if engine.endswith("buildah") else ["ps"]
        if shutil.which(engine) and not subprocess.call(
            [engine, *probe, "-q"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ):
            return engine

    raise UserError("neither docker, podman nor buildah answers on this machine", hint="start one of them")


def build_command(engine: str, variant: str, settings: dict[str, str], tag: str, date: int) -> list[str]:
    """Return the engine's command, without the secrets and the context."""
    arguments = {
        **{key: value for key, value in settings.items() if value and key not in PINS_ONLY},
        "BASE": variants.with_digest(settings, "BASE"),
        "VARIANT": variant,
        "VERSION": jobctl.__version__,
        "REVISION": git_revision() or "unknown",
        "SOURCE_DATE_EPOCH": str(date),
    }

    name = Path(engine).name
    command = [engine, "build"] if name != "buildah" else [engine, "bud", "--layers"]
    if name != "docker":
        # Docker's own format contains a random container name, so the OCI format is used. BuildKit needs
        # neither option: it takes the time from SOURCE_DATE_EPOCH.
        command += ["--format=oci", f"--timestamp={date}"]

    options = [
        f"--build-arg={key}={value}" for key, value in arguments.items() if not key.endswith("_DIGEST")
    ]
    # Podman's layer cache does not notice a changed ARG of an ENV or LABEL, so the revision would be an old
    # one.
    options.append(f"--label=org.opencontainers.image.revision={arguments['REVISION']}")

    return [*command, f"--file={SOURCE / 'docker' / 'Dockerfile'}", f"--tag={tag}", *options]


@contextmanager
def pip_secrets(find_links: str, ca: str | None) -> Iterator[list[str]]:
    """Yield options that give pip its configuration and the certificates while it runs.

    No layer keeps them.
    """
    with tempfile.TemporaryDirectory() as folder:
        # This is a file, not a build argument: an argument stays in the image's history.
        lines = ["[global]"]
        if ca:
            lines.append(f"cert = {CERTIFICATES}")

        if find_links:
            lines.append(f"find-links = {find_links}")

        config = Path(folder) / "pip.conf"
        config.write_text("\n".join(lines) + "\n", encoding="utf-8")

        options = [f"--secret=id=pipconf,src={config}"]
        if ca:
            options.append(f"--secret=id=ca,src={ca}")

        yield options


if __name__ == "__main__":
    run_command(main, "jobctl.docker.build")

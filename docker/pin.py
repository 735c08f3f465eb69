"""``python -m jobctl.docker.pin``: what the images are made of, by version and hash.

``--check`` changes nothing and exits 1 where a pin is stale: where resolving anew gives another version, where the
index has no wheel for this Python and this C library, or none of a pinned hash. The package pins need uv and PyPI. The
digests of the base images and the hash of flash-attn's wheel need a connected machine with skopeo; what cannot be
reached is left as it is, and said.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from jobctl.docker import variants
from jobctl.jobs.core.errors import UserError, run_command

SOURCE = Path(__file__).resolve().parent.parent
REQUIREMENTS = SOURCE / "docker" / "requirements"
RUN = SOURCE / "requirements" / "run.txt"
PYTHON, PLATFORM = "3.11", "x86_64-manylinux_2_28"
"""Debian bookworm's Python, and the newest wheels its C library takes among those that projects build."""
HEADER = "# Made by `make pin` from docker/requirements/{name}.in; do not edit.\n"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m jobctl.docker.pin", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 where a pin is stale")
    parser.add_argument(
        "--upgrade", action="store_true", help="take the newest versions the constraints allow"
    )
    parser.add_argument("--find-links", metavar="FOLDER", help="wheels that no package index has")
    options = parser.parse_args(arguments)
    stale = []
    for name in pinned_files():
        file = variants.FOLDER / f"{name}.txt"
        text = compiled(name, file, options.find_links, options.upgrade)
        if options.check:
            pinned = file.read_text(encoding="utf-8") if file.exists() else ""
            stale += [f"{file.name}: {difference}" for difference in differences(pinned, text)]
        else:
            file.write_text(text, encoding="utf-8")
    if stale:
        print("\n".join([*stale, "the pins are stale; run: make pin"]), file=sys.stderr)
        return 1
    if not options.check:
        for variant in variants.NAMES:
            pin_references(variant)
    return 0


def differences(pinned: str, fresh: str) -> list[str]:
    """In what ``pinned`` is not ``fresh``, one line each. Files that joined a release since it was pinned are none."""
    ours, theirs = hashes(pinned), hashes(fresh)
    return [
        *(f"{package} is not wanted any more" for package in sorted(ours.keys() - theirs.keys())),
        *(f"{package} is not pinned" for package in sorted(theirs.keys() - ours.keys())),
        *(
            f"{package}: no file on the index has {lost}"
            for package in sorted(ours.keys() & theirs.keys())
            for lost in sorted(ours[package] - theirs[package])
        ),
    ]


def hashes(requirements: str) -> dict[str, set[str]]:
    """``name==version`` and its hashes, of the text of a pinned file."""
    lines = [line for line in requirements.replace("\\\n", " ").splitlines() if line and line[0] != "#"]
    return {line.partition(" --hash=")[0].strip(): set(re.findall(r"--hash=(\S+)", line)) for line in lines}


def pinned_files() -> list[str]:
    return sorted(path.stem for path in REQUIREMENTS.glob("*.in") if path.stem != "common")


def compiled(name: str, existing: Path, find_links: str | None, upgrade: bool = False) -> str:
    """The requirements of one file, every version and hash; versions already in ``existing`` are kept."""
    links = find_links or (variants.read(name).get("FIND_LINKS") if name in variants.NAMES else None)
    with tempfile.TemporaryDirectory() as folder:
        output, constraints = Path(folder) / "out.txt", Path(folder) / "constraints.txt"
        pins = [RUN, RUN.with_name("no-deps.txt")]
        lines = [line for pin in pins for line in pin.read_text(encoding="utf-8").splitlines()]
        constraints.write_text("\n".join(line for line in lines if not line.startswith("torch==")))
        if existing.exists():
            output.write_text(existing.read_text(encoding="utf-8"), encoding="utf-8")
        command = [
            "uv", "pip", "compile", str(REQUIREMENTS / f"{name}.in"), "--quiet", "--generate-hashes", "--no-header",
            "--no-annotate", "--no-emit-index-url", "--no-emit-find-links", f"--python-version={PYTHON}",
            f"--python-platform={PLATFORM}", f"--constraint={constraints}", f"--output-file={output}",
            "--system-certs",
            *(["--no-deps"] if name in ("no-deps", "flash-attn") else []),
            *(["--only-binary=:all:"] if name != "flash-attn" else []),  # the images have no compiler to build with
            *([f"--find-links={links}"] if links else []),
            *(["--upgrade"] if upgrade else []),
        ]  # fmt: skip
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            raise UserError("uv is not installed", hint="make pin installs it") from None
        if done.returncode:
            raise UserError(f"uv pip compile {name}.in: {done.stderr.strip()}", code=1)
        text = output.read_text(encoding="utf-8")
    return HEADER.format(name=name) + text.removeprefix(HEADER.format(name=name))


def pin_references(variant: str) -> None:
    """Fill in what only the registries and the release page know: image digests, and the wheel's hash."""
    settings = variants.read(variant)
    for key in (key for key in ("BASE", "CUDA_DEVEL") if f"{key}_DIGEST" in settings):
        command = ["skopeo", "inspect", "--format={{.Digest}}", f"docker://{settings[key]}"]
        try:
            digest = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            print(f"{variant}: {key} {settings[key]} not reached; its digest stays as it is", file=sys.stderr)
        else:
            variants.set_value(variant, f"{key}_DIGEST", digest)
    if wheel := settings.get("FLASH_ATTN_WHEEL"):
        try:
            variants.set_value(variant, "FLASH_ATTN_SHA256", sha256_of(wheel))
        except (urllib.error.URLError, OSError) as error:
            print(f"{variant}: {wheel} not reached ({error}); its hash stays as it is", file=sys.stderr)


def sha256_of(url: str) -> str:
    """Hash of a file on the web, read as a stream."""
    found = hashlib.sha256()
    with urllib.request.urlopen(url, timeout=60) as answer:
        while block := answer.read(1 << 20):
            found.update(block)
    return found.hexdigest()


if __name__ == "__main__":
    run_command(main, "jobctl.docker.pin")

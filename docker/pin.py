"""``python -m jobctl.docker.pin``: pin the packages of the images and of ``requirements/locked*.txt``, by hash.

Every list is resolved anew from ``docker/requirements/*.in``, the versions of ``requirements/*.txt`` and the
package index at the time in ``docker/requirements/index-date.txt``. So the answer is the same today and in a
year. ``--check`` compares it to the last character. It changes nothing, and exits with 1 if anything differs.
The package pins need uv. The digests of the base images need skopeo and a registry. If a registry does not
answer, its digest stays, and a line says so.
"""

from __future__ import annotations

import argparse
import datetime
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from jobctl.docker import lock, references, variants
from jobctl.docker.resolver import resolve
from jobctl.jobs.core.errors import UserError, run_command

SOURCE = Path(__file__).resolve().parent.parent
REQUIREMENTS = SOURCE / "docker" / "requirements"
TESTED = (SOURCE / "requirements" / "run.txt", SOURCE / "requirements" / "no-deps.txt")
INDEX_DATE = REQUIREMENTS / "index-date.txt"
PYTHON = "3.11"
"""Debian bookworm's Python."""
PLATFORM = "x86_64-manylinux_2_28"
"""The newest kind of wheels that projects build and that bookworm's C library can load."""
WITHOUT_DEPENDENCIES = ("no-deps",)
HEADER = "# Made by `make pin` from docker/requirements/{name}.in; do not edit.\n"
_HASH = re.compile(r"--hash=(sha256:\S+)")


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)

    if options.check:
        date = INDEX_DATE.read_text(encoding="utf-8").strip()
        return check(date, options.find_links)

    date = options.index_date or datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")

    for file, text in fresh_texts(date, options.find_links).items():
        file.write_text(text, encoding="utf-8")

    # This comes after the lists: if one cannot be resolved, neither the lists nor the date change.
    INDEX_DATE.write_text(date + "\n", encoding="utf-8")

    # This comes last: only here may an answer be missing without an error. The digest then stays.
    for variant in variants.NAMES:
        references.fill_in(variant)

    return 0


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(prog="python -m jobctl.docker.pin", description=__doc__)
    result.add_argument("--check", action="store_true", help="change nothing; exit 1 if a pin differs")
    result.add_argument(
        "--index-date", metavar="TIME", help="use the index of this time (2026-11-28T22:00:00Z); default: now"
    )
    result.add_argument("--find-links", metavar="FOLDER", help="wheels that no package index has")

    return result


def pinned_files() -> list[str]:
    """Return the names of all lists."""
    return sorted(path.stem for path in REQUIREMENTS.glob("*.in") if path.stem != "common")


def pinned_file(name: str) -> Path:
    """Return the path of the list ``name``."""
    return variants.FOLDER / f"{name}.txt"


def fresh_texts(date: str, find_links: str | None) -> dict[Path, str]:
    """Return the text of every list: those of the images, and those of a machine without an image."""
    images = {pinned_file(name): compiled(name, date, find_links) for name in pinned_files()}
    return images | lock.texts(date)


def check(date: str, find_links: str | None) -> int:
    """Compare every list with a fresh answer.

    If one differs, print the differences and return 1, else return 0.
    """
    problems: list[str] = []
    for file, fresh in fresh_texts(date, find_links).items():
        pinned = file.read_text(encoding="utf-8") if file.exists() else ""
        problems += [f"{file.name}: {difference}" for difference in differences(pinned, fresh)]

    if not problems:
        return 0

    print(
        "\n".join([*problems, "the pins do not match the requirements; run: make pin"]),
        file=sys.stderr,
    )

    return 1


def compiled(name: str, date: str, find_links: str | None) -> str:
    """Resolve one list anew, and return its text: every version and hash on the index at ``date``.

    Raises UserError as ``resolve`` does, and if torch's wheel is not the expected one.
    """
    settings = variants.read(name) if name in variants.NAMES else {}
    options = [f"--python-version={PYTHON}", f"--python-platform={PLATFORM}"]

    # An image has no compiler, so a package without a wheel must not be chosen.
    options.append("--only-binary=:all:")
    if name in WITHOUT_DEPENDENCIES:
        options.append("--no-deps")

    links = find_links or settings.get("FIND_LINKS")
    if links:
        options.append(f"--find-links={links}")

    answer = resolve(REQUIREMENTS / f"{name}.in", date, options, tested_versions())
    text = HEADER.format(name=name) + answer

    return with_one_hash(text, "torch", settings["TORCH_SHA256"]) if "TORCH_SHA256" in settings else text


def tested_versions() -> str:
    """Return the versions that jobctl was tested with, as constraints. Each variant sets its own torch."""
    lines = [line for file in TESTED for line in file.read_text(encoding="utf-8").splitlines()]
    return "\n".join(line for line in lines if not line.startswith("torch==")) + "\n"


def with_one_hash(text: str, package: str, sha256: str) -> str:
    """Keep only one hash of ``package``. A folder of wheels and its page on the web have different files.

    Raises UserError if no file has this hash.
    """
    entry = re.search(rf"^{re.escape(package)}==[^\\\n]*(?:\\\n[^\\\n]*)*", text, re.MULTILINE)
    if entry is None or f"sha256:{sha256}" not in _HASH.findall(entry[0]):
        raise UserError(
            f"no file of {package} has the SHA-256 {sha256}", hint="see TORCH_SHA256 in docker/variants"
        )

    requirement = entry[0].partition(" ")[0]

    return text[: entry.start()] + f"{requirement} \\\n    --hash=sha256:{sha256}" + text[entry.end() :]


def differences(pinned: str, fresh: str) -> list[str]:
    """Return one line for each difference between ``pinned`` and ``fresh``. Equal texts have none."""
    before = entries(pinned)
    after = entries(fresh)
    lines = [f"{package} is superfluous" for package in sorted(before.keys() - after.keys())]
    lines += [f"{package} is missing" for package in sorted(after.keys() - before.keys())]

    for package in sorted(before.keys() & after.keys()):
        version, hashes = before[package]
        fresh_version, fresh_hashes = after[package]
        if version != fresh_version:
            lines.append(f"{package} is pinned to {version}, but the requirements need {fresh_version}")
            continue

        lines += [f"{package}: no file on the index has {value}" for value in sorted(hashes - fresh_hashes)]
        lines += [f"{package}: {value} is not pinned" for value in sorted(fresh_hashes - hashes)]

    if not lines and pinned != fresh:
        lines.append("a line is repeated, moved, or not a requirement")

    return lines


def entries(requirements: str) -> dict[str, tuple[str, frozenset[str]]]:
    """Return the version and the hashes of each package in the text of a list.

    A package with several versions has one entry for each marker, as ``click ; python_version < '3.11'``.
    """
    lines = [line for line in requirements.replace("\\\n", " ").splitlines() if line and line[0] != "#"]
    result = {}
    for line in lines:
        package, _, rest = line.partition(" --hash=")[0].strip().partition("==")
        version, semicolon, marker = rest.partition(" ;")
        result[f"{package}{semicolon and f' ;{marker}'}"] = (version, frozenset(_HASH.findall(line)))

    return result


if __name__ == "__main__":
    run_command(main, "jobctl.docker.pin")

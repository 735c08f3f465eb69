"""``python3 -m jobctl.docker.inventory``, in an image: print its contents as CycloneDX 1.6.

The parts are jobctl, the Python packages of the environment and Debian's packages. The list has no time and
no random number, so that the same image has the same list.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

import jobctl
from jobctl.jobs.core.errors import UserError, run_command

DOCUMENTATION = Path("/usr/share/doc")
"""The folder in which each of Debian's packages keeps its ``copyright``."""
OWN_LICENCE = "Apache-2.0 AND CC-BY-SA-3.0 AND LicenseRef-Modified-MIT"
NOT_STATED = "not stated"
CLASSIFIER = "License :: "
LONGEST_NAME = 64
"""The longest name of a licence. Some packages have the whole text instead of the name."""
Component = dict[str, Any]


def main() -> int:
    print(json.dumps(inventory(metadata.distributions(), installed_debian_packages()), indent=1))
    return 0


def inventory(distributions: Iterable[metadata.Distribution], debian: list[Component]) -> dict[str, Any]:
    """Return the list of an image: jobctl with the name of the variant, and its parts by kind and name."""
    variant = os.environ.get("JOBCTL_IMAGE_VARIANT", "")
    # Kept by purl: a package in two folders of the path is named once.
    python = {component["purl"]: component for component in map(python_component, distributions)}
    image = component_of(
        f"jobctl-{variant}" if variant else "jobctl",
        jobctl.__version__,
        f"pkg:generic/jobctl@{jobctl.__version__}",
        [{"expression": OWN_LICENCE}],
    )

    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {**image, "type": "container"}},
        "components": [python[purl] for purl in sorted(python)] + debian,
    }


def component_of(name: str, version: str, purl: str, licences: list[Any]) -> Component:
    """Return one part in the form of CycloneDX."""
    return {
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": version,
        "licenses": licences,
        "purl": purl,
    }


def python_component(distribution: metadata.Distribution) -> Component:
    """Return one Python package with the licence that its metadata states."""
    # A purl of PyPI needs the normal form of a name.
    name = re.sub(r"[-_.]+", "-", distribution.metadata["Name"]).lower()
    purl = f"pkg:pypi/{name}@{distribution.version}"
    return component_of(name, distribution.version, purl, python_licences(distribution.metadata))


def python_licences(facts: metadata.PackageMetadata) -> list[Any]:
    """Return the licences of a package.

    They are its expression, else its classifiers, else the first line of its field.
    """
    # The expression is the newest field and the only one with a grammar. The others are free text.
    expression = (facts.get_all("License-Expression") or [""])[0]
    if expression:
        return [{"expression": expression}]

    classifiers = [text for text in facts.get_all("Classifier") or [] if text.startswith(CLASSIFIER)]
    if classifiers:
        return [named(text.rpartition(" :: ")[2]) for text in sorted(classifiers)]

    lines = (facts.get_all("License") or [""])[0].strip().splitlines()

    return [named(lines[0] if lines and len(lines[0]) <= LONGEST_NAME else NOT_STATED)]


def installed_debian_packages() -> list[Component]:
    """Ask dpkg for the packages of this image. Raises UserError without dpkg."""
    command = ["dpkg-query", "--show", "--showformat=${binary:Package}\\t${Version}\\t${Architecture}\\n"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise UserError(f"dpkg-query: {error}", hint="run this in an image: make sbom VARIANT=cpu") from None

    return debian_components(answer, DOCUMENTATION)


def debian_components(listing: str, documentation: Path) -> list[Component]:
    """Return the packages in ``dpkg-query``'s listing, with the licences of their copyright files."""
    components = []
    for line in sorted(listing.splitlines()):
        package, version, architecture = line.split("\t")
        name = package.partition(":")[0]
        purl = f"pkg:deb/debian/{name}@{version}?arch={architecture}"
        file = documentation / name / "copyright"
        # Old copyright files are not all UTF-8, and some packages have none.
        text = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
        components.append(
            component_of(name, version, purl, [named(licence) for licence in debian_licences(text)])
        )

    return components


def debian_licences(copyright_text: str) -> list[str]:
    """Return the licences in a copyright file: those in its fields, else those of Debian's common texts."""
    fields = re.findall(r"^License:[ \t]*(\S[^\n]*)", copyright_text, re.MULTILINE)
    common = re.findall(r"/usr/share/common-licenses/([A-Za-z0-9.+-]*[A-Za-z0-9+])", copyright_text)
    return sorted({text.strip() for text in fields}) or sorted(set(common)) or [NOT_STATED]


def named(name: str) -> dict[str, Any]:
    """Return a licence by its name in the form of CycloneDX."""
    return {"license": {"name": name}}


if __name__ == "__main__":
    run_command(main, "jobctl.docker.inventory")

"""The list of what an image holds: every Python package and every package of Debian's, with its licence."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

import pytest

from jobctl.docker import inventory

FIELDS = """Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Files: *
License: GPL-2+
Files: b
License:  BSD-3-clause
License: GPL-2+
 On Debian systems see /usr/share/common-licenses/GPL-2.
"""


def package(folder: Path, name: str, *fields: str) -> metadata.Distribution:
    """Return an installed package whose metadata has ``fields``."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "\n".join(["Metadata-Version: 2.1", f"Name: {name}", "Version: 1.0", *fields])
    )
    return metadata.Distribution.at(info)


@pytest.mark.parametrize(
    ("fields", "licences"),
    [
        (
            ("License-Expression: MIT AND BSD-3-Clause", "License: old"),
            [{"expression": "MIT AND BSD-3-Clause"}],
        ),
        (
            ("Classifier: License :: OSI Approved :: MIT License", "License: a long text"),
            [{"license": {"name": "MIT License"}}],
        ),
        (("License: Apache 2.0",), [{"license": {"name": "Apache 2.0"}}]),
        ((f"License: {'word ' * 100}",), [{"license": {"name": "not stated"}}]),
        ((), [{"license": {"name": "not stated"}}]),
    ],
)
def test_a_python_package_has_the_licence_that_it_states(
    tmp_path: Path, fields: tuple[str, ...], licences: list[object]
) -> None:
    component = inventory.python_component(package(tmp_path, "Some_Package", *fields))
    assert (component["name"], component["version"]) == ("some-package", "1.0")
    assert component["purl"] == "pkg:pypi/some-package@1.0"
    assert component["licenses"] == licences


@pytest.mark.parametrize(
    ("text", "licences"),
    [
        (FIELDS, ["BSD-3-clause", "GPL-2+"]),
        ("The GNU licence is in /usr/share/common-licenses/LGPL-2.1.\n", ["LGPL-2.1"]),
        ("Public domain.\n", ["not stated"]),
        ("", ["not stated"]),
    ],
)
def test_a_package_of_debians_has_the_licences_of_its_copyright_file(
    tmp_path: Path, text: str, licences: list[str]
) -> None:
    (tmp_path / "libc6").mkdir()
    (tmp_path / "libc6/copyright").write_text(text)
    (component,) = inventory.debian_components("libc6:amd64\t2.36-9\tamd64\n", tmp_path)
    assert component["purl"] == "pkg:deb/debian/libc6@2.36-9?arch=amd64"
    assert [licence["license"]["name"] for licence in component["licenses"]] == licences


def test_a_package_without_a_copyright_file_is_listed_all_the_same(tmp_path: Path) -> None:
    (component,) = inventory.debian_components("tini\t0.19\tamd64\n", tmp_path)
    assert component["licenses"] == [{"license": {"name": "not stated"}}]


def test_the_list_names_the_variant_and_is_the_same_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOBCTL_IMAGE_VARIANT", "cu132")
    packages = [package(tmp_path, name) for name in ("b", "a")]
    debian = inventory.debian_components("tini\t0.19\tamd64\n", tmp_path)

    first = inventory.inventory(packages, debian)
    assert json.dumps(first) == json.dumps(inventory.inventory(reversed(packages), debian))
    assert first["metadata"]["component"]["name"] == "jobctl-cu132"
    assert [component["name"] for component in first["components"]] == ["a", "b", "tini"]
    references = [component["bom-ref"] for component in first["components"]]
    assert len(set(references)) == len(references)

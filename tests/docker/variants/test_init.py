"""A variant's file is read whole, and one value of it can be filled in."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from jobctl.docker import variants
from jobctl.jobs.catalog.schema import ImageVariant
from jobctl.jobs.core.errors import UserError


def test_the_catalogue_knows_the_variants_that_can_be_built() -> None:
    assert set(variants.NAMES) == set(ImageVariant.__args__)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", variants.NAMES)
def test_a_variant_names_its_base_and_its_torch(name: str) -> None:
    settings = variants.read(name)
    assert settings["BASE"]
    assert settings["TORCH_VERSION"].startswith("2.")
    assert bool(settings["TORCH_CUDA"]) == (name != "cpu")


def test_an_unknown_variant_gets_the_nearest() -> None:
    with pytest.raises(UserError, match="unknown image variant 'cu131'; did you mean 'cu132'"):
        variants.read("cu131")


def test_one_value_is_filled_in_and_comments_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(variants.FOLDER / "cpu.env", tmp_path)
    before = (tmp_path / "cpu.env").read_text()
    monkeypatch.setattr(variants, "FOLDER", tmp_path)
    variants.set_value("cpu", "BASE_DIGEST", "sha256:ab=")
    assert variants.read("cpu")["BASE_DIGEST"] == "sha256:ab="
    changed = [
        pair
        for pair in zip(before.splitlines(), (tmp_path / "cpu.env").read_text().splitlines(), strict=True)
        if pair[0] != pair[1]
    ]
    assert [after for _, after in changed] == ["BASE_DIGEST=sha256:ab="]


@pytest.mark.parametrize(
    ("settings", "reference"),
    [
        ({"BASE": "a:1", "BASE_DIGEST": "sha256:b"}, "a:1@sha256:b"),
        ({"BASE": "a:1", "BASE_DIGEST": ""}, "a:1"),
        ({}, ""),
    ],
)
def test_a_reference_has_its_digest_where_that_is_known(settings: dict[str, str], reference: str) -> None:
    assert variants.with_digest(settings, "BASE") == reference

"""The pins of the image variants agree with each other, with the catalogue and with the Dockerfile."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from jobctl.docker import build, pin, variants
from jobctl.jobs.catalog.loader import load_entry, names
from jobctl.jobs.catalog.schema import HardwareEntry
from jobctl.jobs.core.errors import UserError
from tests.docker.conftest import not_here

PROJECT = Path(__file__).parents[2]
GPU_VARIANTS = ("cu124", "cu128")
CUDA_RUNTIME = {"cu124": "12.4.127", "cu128": "12.8.90"}
"""The runtime package of CUDA 12.4.1 and of 12.8.1."""


def pins(name: str) -> dict[str, str]:
    text = (variants.FOLDER / f"{name}.txt").read_text()
    return dict(re.findall(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", text, flags=re.MULTILINE))


@pytest.mark.parametrize("name", pin.pinned_files())
def test_every_package_is_pinned_by_hash(name: str) -> None:
    text = (variants.FOLDER / f"{name}.txt").read_text().replace("\\\n", "")
    packages = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert packages
    assert [line for line in packages if "==" not in line or "--hash=sha256:" not in line] == []


@pytest.mark.parametrize("variant", variants.NAMES)
def test_what_jobctl_was_tested_with_is_what_the_images_have(variant: str) -> None:
    requirements = "".join(
        (PROJECT / "requirements" / f"{name}.txt").read_text() for name in ("run", "no-deps")
    )
    tested = re.findall(r"^([\w-]+)==([\w.]+)(?: ; python_version >= .*)?$", requirements, flags=re.MULTILINE)
    found = {**pins(variant), **pins("no-deps")}
    wrong = {
        name: found.get(name.replace("_", "-"))
        for name, version in tested
        if name != "torch" and found.get(name.replace("_", "-")) != version
    }
    assert wrong == {}


@pytest.mark.parametrize("variant", GPU_VARIANTS)
def test_cuda_of_torch_is_the_variants(variant: str) -> None:
    assert pins(variant)["nvidia-cuda-runtime-cu12"] == CUDA_RUNTIME[variant]
    assert f":{CUDA_RUNTIME[variant][:4]}.1-devel" in variants.read(variant)["CUDA_DEVEL"]


@pytest.mark.parametrize(("variant", "abi"), [("cu124", "FALSE"), ("cu128", "TRUE")])
def test_the_wheel_of_flash_attn_is_for_this_torch_python_and_abi(variant: str, abi: str) -> None:
    torch = ".".join(pins(variant)["torch"].split(".")[:2])
    python = "cp" + pin.PYTHON.replace(".", "")
    version = pins("flash-attn")["flash-attn"]
    wheel = variants.read(variant)["FLASH_ATTN_WHEEL"].rsplit("/", 1)[1]
    assert wheel == f"flash_attn-{version}+cu12torch{torch}cxx11abi{abi}-{python}-{python}-linux_x86_64.whl"


@pytest.mark.parametrize("variant", GPU_VARIANTS)
def test_the_c_library_is_new_enough_for_all_that_is_linked_against_one(variant: str) -> None:
    """The packages' wheels ask for 2.28 at most, flash-attn's own build for the devel image's 2.35."""
    bookworm, jammy = 36, 35
    assert variants.read(variant)["BASE"].endswith(":bookworm-slim")
    assert variants.read(variant)["CUDA_DEVEL"].endswith("-ubuntu22.04")
    wheels = int(pin.PLATFORM.rpartition("_")[2])
    assert max(wheels, jammy) <= bookworm


def test_every_variant_of_the_catalogue_can_be_built_and_has_code_for_its_gpus() -> None:
    for name in names("hardware"):
        facts = load_entry("hardware", name, HardwareEntry).facts
        assert set(facts.image_variants) <= set(variants.NAMES)
        for variant in facts.image_variants:
            if facts.compute_capability:
                major = int(facts.compute_capability.split(".")[0])
                built = variants.read(variant)["FLASH_ATTN_CUDA_ARCHS"].split(";")
                assert f"{major}0" in built, f"{variant} on {name}"


def test_a_wheel_without_a_known_hash_is_built_from_source(capsys: pytest.CaptureFixture[str]) -> None:
    settings = {**variants.read("cu128"), "FLASH_ATTN_SHA256": ""}
    assert "--build-arg=FLASH_ATTN=source" in build.build_command("docker", "cu128", settings, "t")
    assert "make pin" in capsys.readouterr().err
    settings["FLASH_ATTN_SHA256"] = "0" * 64
    assert "--build-arg=FLASH_ATTN=wheel" in build.build_command("docker", "cu128", settings, "t")


def test_a_base_whose_digest_is_known_is_taken_by_it() -> None:
    settings = {**variants.read("cpu"), "BASE": "r/debian:x", "BASE_DIGEST": "sha256:12"}
    assert "--build-arg=BASE=r/debian:x@sha256:12" in build.build_command("docker", "cpu", settings, "t")


def test_pip_is_told_by_secrets_that_name_no_file_of_the_image() -> None:
    with build.pip_secrets("/wheels", "/etc/ca.crt") as options:
        file = Path(options[0].partition("src=")[2])
        assert file.read_text() == f"[global]\ncert = {build.CERTIFICATES}\nfind-links = /wheels\n"
        assert options[1] == "--secret=id=ca,src=/etc/ca.crt"
    assert not file.exists()


def test_an_unknown_variant_is_an_error_with_the_nearest_name() -> None:
    with pytest.raises(UserError, match="did you mean 'cu128'"):
        variants.read("cu129")


def test_the_builder_gets_no_secret_no_data_and_no_history() -> None:
    rules = (PROJECT / ".dockerignore").read_text().splitlines()
    kept = {rule[1:] for rule in rules if rule.startswith("!")}
    assert rules.index("*") < min(rules.index(f"!{name}") for name in kept)
    assert kept == {"jobs", "slurm", "k8s", "templates", "trainer", "prep", "docker", "src"}


@pytest.mark.parametrize(
    ("program", "file"), [("hadolint", "docker/Dockerfile"), ("shellcheck", "docker/entrypoint")]
)
def test_checkers_find_nothing(program: str, file: str) -> None:
    path = f"{os.environ['PATH']}:{Path(sys.executable).parent}"
    if shutil.which(program, path=path) is None:
        not_here(f"not installed: {program} (make pin-check installs hadolint)")
    done = subprocess.run(
        [program, file], cwd=PROJECT, capture_output=True, text=True, check=False, env={"PATH": path}
    )
    assert done.stdout + done.stderr == ""


def test_the_list_of_what_is_in_an_image_has_every_pinned_package_and_its_hashes(tmp_path: Path) -> None:
    scripts = Path(sys.executable).parent
    if not (scripts / "cyclonedx-py").exists():
        not_here("not installed: cyclonedx-py (make pin-check installs it)")
    command = [
        "make",
        "-s",
        "-o",
        f"{scripts.parent}/.images",
        "sbom",
        "VARIANT=cu128",
        f"VENV={scripts.parent}",
    ]
    done = subprocess.run(
        [*command, f"SBOM={tmp_path}/sbom.json"], cwd=PROJECT, capture_output=True, text=True, check=False,
        env={"PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    listed = json.loads((tmp_path / "sbom.json").read_text())["components"]
    pinned = {**pins("cu128"), **pins("no-deps"), **pins("flash-attn")}
    assert {part["name"]: part["version"] for part in listed} == pinned
    assert all(part["externalReferences"][0]["hashes"] for part in listed)

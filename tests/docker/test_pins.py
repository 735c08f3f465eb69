"""The pins of the image variants agree with each other, with the catalogue and with the Dockerfile."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from jobctl.docker import build, pin, variants
from jobctl.jobs.catalog.entries import HardwareEntry
from jobctl.jobs.catalog.loader import load_entry, names
from jobctl.jobs.core.errors import UserError
from tests.absent import absent

PROJECT = Path(__file__).parents[2]
CUDA_RUNTIME = {
    "cu124": ("nvidia-cuda-runtime-cu12", "12.4."),
    "cu132": ("nvidia-cuda-runtime", "13.2."),
}
"""The package of CUDA's runtime that torch asks for, and the beginning of its version."""
DIGEST = "0" * 64


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


@pytest.mark.parametrize("variant", CUDA_RUNTIME)
def test_a_variant_is_named_by_the_cuda_of_its_torch(variant: str) -> None:
    package, beginning = CUDA_RUNTIME[variant]
    assert pins(variant)[package].startswith(beginning)
    cuda = variants.read(variant)["TORCH_CUDA"]
    assert beginning == f"{cuda}."
    assert variant == "cu" + cuda.replace(".", "")


@pytest.mark.parametrize("variant", variants.NAMES)
def test_the_build_checks_the_torch_that_is_pinned(variant: str) -> None:
    assert variants.read(variant)["TORCH_VERSION"] == pins(variant)["torch"]


@pytest.mark.parametrize("variant", CUDA_RUNTIME)
def test_a_driver_of_the_cudas_major_version_is_required(variant: str) -> None:
    settings = variants.read(variant)
    assert settings["NVIDIA_REQUIRE_CUDA"] == f"cuda>={settings['TORCH_CUDA'].partition('.')[0]}.0"


@pytest.mark.parametrize("variant", CUDA_RUNTIME)
def test_kernels_are_compiled_where_they_run_so_a_compiler_and_pythons_headers_stay(variant: str) -> None:
    packages = variants.read(variant)["RUNTIME_PACKAGES"].split()
    assert {"gcc", "libc6-dev", "python3-dev"} <= set(packages)


@pytest.mark.parametrize("variant", variants.NAMES)
def test_the_c_library_is_new_enough_for_the_wheels(variant: str) -> None:
    bookworm = 36
    assert variants.read(variant)["BASE"].endswith(":bookworm-slim")
    assert int(pin.PLATFORM.rpartition("_")[2]) <= bookworm


def runs_on(built_for: str, capability: str) -> bool:
    """Return whether code for ``sm_XY`` runs on a GPU of this capability: same major version, no larger minor one."""
    code = int(built_for.removeprefix("sm_"))
    major, minor = (int(part) for part in capability.split("."))
    return code // 10 == major and code % 10 <= minor


def test_code_runs_within_a_major_version() -> None:
    assert [
        capability for capability in ("9.0", "10.0", "10.3", "12.0") if runs_on("sm_100", capability)
    ] == [
        "10.0",
        "10.3",
    ]
    assert not runs_on("sm_86", "8.0")


def test_every_variant_of_the_catalogue_can_be_built_and_has_code_for_its_gpus() -> None:
    for name in names("hardware"):
        facts = load_entry("hardware", name, HardwareEntry).facts
        assert set(facts.image_variants) <= set(variants.NAMES)
        for variant in facts.image_variants:
            if facts.compute_capability:
                built_for = variants.read(variant)["TORCH_ARCHITECTURES"].split()
                assert any(runs_on(code, facts.compute_capability) for code in built_for), (
                    f"{variant} on {name}"
                )


def test_no_variant_has_flash_attn_by_default() -> None:
    for variant in variants.NAMES:
        assert not [line for line in command_of(variant) if "FLASH_ATTN" in line]
        assert "flash-attn" not in pins(variant)


def test_flash_attn_comes_from_a_wheel_whose_hash_is_given() -> None:
    assert build.flash_attn_settings(f"https://example.org/flash_attn-2.whl#sha256={DIGEST}", "cu124") == {
        "FLASH_ATTN_WHEEL": "https://example.org/flash_attn-2.whl",
        "FLASH_ATTN_SHA256": DIGEST,
    }


@pytest.mark.parametrize(
    ("wheel", "variant", "message"),
    [
        ("https://example.org/flash_attn-2.whl", "cu124", "the URL has no SHA-256 at its end"),
        ("https://example.org/flash_attn-2.whl#sha256=12", "cu124", "the URL has no SHA-256 at its end"),
        (f"https://example.org/flash_attn-2.tar.gz#sha256={DIGEST}", "cu124", "the URL has no SHA-256"),
        (f"https://example.org/flash_attn-2.whl#sha256={DIGEST}", "cpu", "the cpu image has no CUDA"),
    ],
)
def test_a_wheel_that_cannot_be_checked_or_used_is_refused(wheel: str, variant: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build.flash_attn_settings(wheel, variant)


def test_a_host_that_is_not_x86_64_is_refused_with_another_way() -> None:
    build.check_architecture("x86_64")
    with pytest.raises(UserError, match=r"(?s)this machine is aarch64.*Grace hosts") as error:
        build.check_architecture("aarch64")
    assert error.value.code == 2


def test_the_time_of_the_build_is_the_pins_or_the_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    assert f"--build-arg=SOURCE_DATE_EPOCH={build.source_date()}" in command_of("cpu")
    podman = command_of("cpu", engine="podman")
    assert {f"--timestamp={build.source_date()}", "--format=oci"} <= set(podman)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "7")
    assert build.source_date() == 7


def command_of(variant: str, engine: str = "docker") -> list[str]:
    return build.build_command(engine, variant, variants.read(variant), "t", build.source_date())


def test_a_base_whose_digest_is_known_is_taken_by_it() -> None:
    settings = {**variants.read("cpu"), "BASE": "r/debian:x", "BASE_DIGEST": "sha256:12"}
    assert "--build-arg=BASE=r/debian:x@sha256:12" in build.build_command("docker", "cpu", settings, "t", 0)


def test_pip_is_told_by_secrets_that_name_no_file_of_the_image() -> None:
    with build.pip_secrets("/wheels", "/etc/ca.crt") as options:
        file = Path(options[0].partition("src=")[2])
        assert file.read_text() == f"[global]\ncert = {build.CERTIFICATES}\nfind-links = /wheels\n"
        assert options[1] == "--secret=id=ca,src=/etc/ca.crt"
    assert not file.exists()


def test_an_unknown_variant_is_an_error_with_the_nearest_name() -> None:
    with pytest.raises(UserError, match="did you mean 'cu132'"):
        variants.read("cu130")


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
        absent("JOBCTL_REQUIRE_IMAGES", f"not installed: {program} (make pin-check installs hadolint)")
    done = subprocess.run(
        [program, file], cwd=PROJECT, capture_output=True, text=True, check=False, env={"PATH": path}
    )
    assert done.stdout + done.stderr == ""

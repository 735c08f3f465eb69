"""The build of an image: which words an engine gets, and what is refused before it starts."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from jobctl.docker import build, variants
from jobctl.jobs.core.errors import UserError

WHEEL = "https://example.org/flash_attn-2.8-cp311.whl"
SHA256 = "0123456789abcdef" * 4


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with nothing in it but what the test puts there."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JOBCTL_ENGINE", raising=False)
    return tmp_path


def engine(folder: Path, name: str, body: str) -> None:
    program = folder / name
    program.write_text(f"#!/bin/bash\n{body}\n")
    program.chmod(0o755)


def arguments(command: list[str]) -> dict[str, str]:
    words = [word.removeprefix("--build-arg=") for word in command if word.startswith("--build-arg=")]
    return dict(word.split("=", 1) for word in words)


@pytest.mark.parametrize("variant", variants.NAMES)
def test_the_dockerfile_takes_every_argument_that_it_is_given(variant: str) -> None:
    text = (build.SOURCE / "docker/Dockerfile").read_text(encoding="utf-8")
    declared = set(re.findall(r"^ARG (\w+)", text, re.MULTILINE)) | {"SOURCE_DATE_EPOCH"}
    command = build.build_command("docker", variant, variants.read(variant), "t:1", 0)
    assert set(arguments(command)) <= declared


def test_docker_stamps_the_time_by_an_argument_and_the_others_by_an_option() -> None:
    settings = variants.read("cpu")
    docker = build.build_command("docker", "cpu", settings, "t:1", 7)
    podman = build.build_command("/usr/bin/podman", "cpu", settings, "t:1", 7)
    buildah = build.build_command("buildah", "cpu", settings, "t:1", 7)
    assert docker[:2] == ["docker", "build"]
    assert "--timestamp=7" not in docker
    assert podman[:4] == ["/usr/bin/podman", "build", "--format=oci", "--timestamp=7"]
    assert buildah[:3] == ["buildah", "bud", "--layers"]
    assert {arguments(command)["SOURCE_DATE_EPOCH"] for command in (docker, podman, buildah)} == {"7"}


def test_the_base_is_named_by_its_digest_where_that_is_known() -> None:
    settings = variants.read("cpu") | {"BASE": "debian:1", "BASE_DIGEST": "sha256:ab"}
    given = arguments(build.build_command("docker", "cpu", settings, "t:1", 0))
    assert given["BASE"] == "debian:1@sha256:ab"
    assert not [key for key in given if key.endswith("_DIGEST") or key in build.PINS_ONLY]


@pytest.mark.parametrize(
    ("wheel", "variant", "message"),
    [
        (WHEEL, "cu132", "the URL has no SHA-256 at its end"),
        (f"{WHEEL}#sha256=abc", "cu132", "the URL has no SHA-256 at its end"),
        (f"{WHEEL}#sha256={SHA256}", "cpu", "the cpu image has no CUDA"),
    ],
)
def test_a_wheel_without_a_hash_or_a_gpu_is_refused(wheel: str, variant: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build.flash_attn_settings(wheel, variant)


def test_a_wheel_becomes_two_arguments() -> None:
    assert build.flash_attn_settings("", "cpu") == {}
    settings = build.flash_attn_settings(f"{WHEEL}#sha256={SHA256}", "cu132")
    assert settings == {"FLASH_ATTN_WHEEL": WHEEL, "FLASH_ATTN_SHA256": SHA256}


def test_another_processor_is_told_what_to_do_instead() -> None:
    build.check_architecture("x86_64")
    with pytest.raises(UserError, match=r"this machine is aarch64\n.*container.runtime: none"):
        build.check_architecture("aarch64")


def test_the_date_is_the_pins_unless_the_environment_says_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    assert build.source_date() > 1_700_000_000
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "12")
    assert build.source_date() == 12


def test_the_first_engine_that_answers_is_taken(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="neither docker, podman nor buildah answers"):
        build.find_engine()

    engine(folder, "docker", "exit 1")
    engine(folder, "buildah", '[ "$1" = images ]')
    assert build.find_engine() == "buildah"
    engine(folder, "podman", '[ "$1" = ps ]')
    assert build.find_engine() == "podman"
    monkeypatch.setenv("JOBCTL_ENGINE", str(folder / "buildah"))
    assert build.find_engine() == str(folder / "buildah")


def test_pip_sees_its_configuration_only_while_the_image_is_built(tmp_path: Path) -> None:
    with build.pip_secrets("/wheels", "/ca.crt") as options:
        config = Path(options[0].partition("src=")[2])
        assert config.read_text() == f"[global]\ncert = {build.CERTIFICATES}\nfind-links = /wheels\n"
        assert options[1] == "--secret=id=ca,src=/ca.crt"

    assert not config.exists()
    with build.pip_secrets("", None) as options:
        assert len(options) == 1


@pytest.mark.parametrize("code", [0, 3])
def test_the_engines_exit_code_is_the_builds(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], code: int
) -> None:
    monkeypatch.setattr(build.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(build, "git_revision", lambda: "abc")
    monkeypatch.setenv("WORDS", str(folder / "words"))
    engine(folder, "podman", f'printf "%s\\n" "$@" >"$WORDS"; exit {code}')
    assert (
        build.main(["--engine", str(folder / "podman"), "--tag", "t:1", "--engine-option=--no-cache"]) == code
    )
    words = (folder / "words").read_text().splitlines()
    assert words[-2:] == ["--no-cache", str(build.SOURCE)]
    assert "--tag=t:1" in words
    assert ("built t:1" in capsys.readouterr().out) == (code == 0)


def test_docker_cannot_mount_a_folder_of_wheels(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build.platform, "machine", lambda: "x86_64")
    with pytest.raises(UserError, match="cannot mount a folder of wheels"):
        build.main(["--engine", "docker", "--find-links", str(folder)])
    assert os.listdir(folder) == []

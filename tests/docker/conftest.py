"""The engines and the image of these tests; skipped with the reason where they cannot be had."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jobctl.jobs.spec.job_spec import JobSpec
from jobctl.jobs.spec.resolution import Choices, resolve
from tests.absent import absent
from tests.clusters import containers
from tests.clusters.containers import Engine

ENGINES = {"podman_store", "docker_service", "engine"}


def require(*programs: str) -> None:
    """Skip where ``programs`` are lacking; fail where JOBCTL_REQUIRE_IMAGES=1 says that they must not be."""
    if reason := containers.missing(*programs):
        absent("JOBCTL_REQUIRE_IMAGES", reason)


@pytest.fixture(scope="session")
def podman_store() -> Engine:
    require("podman", "runc", "busybox")
    return containers.podman()


@pytest.fixture(scope="session")
def docker_service() -> Iterator[Engine]:
    require("docker", "dockerd", "runc", "busybox", "setpriv")
    with containers.docker_daemon() as engine:
        yield engine


@pytest.fixture(scope="session")
def built_image(podman_store: Engine) -> str:
    require("podman", "runc", "mmdebstrap")
    return containers.build_image(podman_store)


@pytest.fixture
def podman(podman_store: Engine, monkeypatch: pytest.MonkeyPatch) -> Engine:
    return chosen(podman_store, monkeypatch)


@pytest.fixture(params=["podman", "docker"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """Each of the two engines in turn."""
    fixture = {"podman": "podman_store", "docker": "docker_service"}[request.param]
    return chosen(request.getfixturevalue(fixture), monkeypatch)


def chosen(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Engine:
    for name, value in {**engine.env, "JOBCTL_ENGINE": engine.name}.items():
        monkeypatch.setenv(name, value)
    return engine


@pytest.fixture
def image(engine: Engine, built_image: str, podman_store: Engine) -> str:
    """Our image in each of the two engines; Podman has built it."""
    if engine is not podman_store:
        containers.copy_image(built_image, podman_store, engine)
    return built_image


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "root with 'odd' name"
    monkeypatch.setenv("JOBCTL_ROOT", str(path))
    monkeypatch.chdir(tmp_path)
    return path


@pytest.fixture
def job(root: Path, tmp_path: Path) -> Callable[..., JobSpec]:
    """``job(body)``: a smoke job for the docker target whose image is a shell, and whose Python runs ``body``."""

    def make(body: str, **choices: object) -> JobSpec:
        python = tmp_path / "python3"
        python.write_text(f"#!/bin/sh\n{body}\n")
        python.chmod(0o755)
        site = tmp_path / "site.yaml"
        site.write_text(f"summary: a test\nsettings:\n  mounts: ['{python}:/bin/python3:ro']\n")
        options = {
            "model": "qwen3_smoke", "run": "r", "target": "docker", "site": str(site),
            "named": {"image": containers.SHELL_IMAGE}, **choices,
        }  # fmt: skip
        return resolve(Choices(**options), version="0.0.0", root=str(root)).spec  # type: ignore[arg-type]

    return make


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist looks at the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One worker for all that run containers: they share an image and a Docker daemon, which each would make anew."""
    for item in items:
        if ENGINES & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.xdist_group("images"))

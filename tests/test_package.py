"""The installed package: one name, complete, and untouched by packages of the same words."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.xdist_group("package")  # each worker would build the distributions anew
REPOSITORY = Path(__file__).resolve().parents[1]
SHIPPED = (
    "NOTICE",
    "gpt2/LICENSE",
    "gpt2/encoder.json",
    "gpt2/vocab.bpe",
    "lid176/LICENSE",
    "lid176/lid.176.ftz",
)
OTHERS = ("mlflow", "trainer", "prep", "jobs", "slurm", "k8s", "templates", "docker")
"""Top-level names that other packages on the index install; our folders are called so, too."""
REQUIRED = ("click", "Jinja2", "MarkupSafe", "msgspec", "PyYAML")
"""What jobctl needs where it renders, by the packages' names."""
DEPENDENCIES = ("click", "jinja2", "markupsafe", "msgspec", "yaml", "_yaml")


def source_copy(folder: Path) -> Path:
    """Copy what git tracks, or would track, to ``folder``: a build leaves files in its source."""
    listed = subprocess.run(
        ["git", "-C", str(REPOSITORY), "ls-files", "-co", "--exclude-standard", "-z"],
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        source = REPOSITORY / name
        if not source.exists():
            continue
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target, follow_symlinks=False)
    return folder


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source distribution, and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("distributions")
    tree = source_copy(tmp_path_factory.mktemp("source"))
    build = "from setuptools.build_meta import *; import sys; build_sdist(sys.argv[1])"
    run([sys.executable, "-c", build, str(folder)], tree)

    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as file:
        file.extractall(tree / "unpacked", filter="data")
    (unpacked,) = (tree / "unpacked").iterdir()
    build = "from setuptools.build_meta import *; import sys; build_wheel(sys.argv[1])"
    run([sys.executable, "-c", build, str(folder)], unpacked)
    return folder


def run(command: list[str], folder: Path, **environment: str) -> str:
    """Run ``command`` in ``folder``; return what it printed, or fail with it."""
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def site(distributions: Path, tmp_path: Path) -> Path:
    """A folder as an installer makes it: the unpacked wheel and its four dependencies, nothing else."""
    folder = tmp_path / "site-packages"
    (wheel,) = distributions.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(folder)

    installed = Path(sysconfig.get_path("purelib"))
    for base in {installed, Path(sysconfig.get_path("platlib")), *map(Path, sys.path)}:
        for name in DEPENDENCIES:
            if (base / name).is_dir() and not (folder / name).exists():
                (folder / name).symlink_to(base / name)
    return folder


def jobctl(site: Path, *words: str) -> str:
    """What ``jobctl WORDS`` prints when only ``site`` is installed."""
    program = "from jobctl.jobs.cli import main; import sys; main(sys.argv[1:])"
    isolated = [sys.executable, "-S", "-c", program]
    return run([*isolated, *words], site.parent, PYTHONPATH=str(site), JOBCTL_ROOT=str(site.parent / "root"))


@pytest.fixture(scope="module")
def wheels(distributions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with our wheel and those of its dependencies, so that an installer needs no index."""
    folder = tmp_path_factory.mktemp("wheels")
    for name in REQUIRED:
        packed_again(importlib.metadata.distribution(name), folder)

    (wheel,) = distributions.glob("*.whl")
    shutil.copy(wheel, folder)
    return folder


def packed_again(distribution: importlib.metadata.Distribution, folder: Path) -> None:
    """Make a wheel of an installed package."""
    tag = next(
        line[5:] for line in (distribution.read_text("WHEEL") or "").splitlines() if line[:5] == "Tag: "
    )
    paths = [path for path in distribution.files or () if ".." not in path.parts and path.suffix != ".pyc"]
    (record,) = (path for path in paths if path.name == "RECORD")

    stem = record.parts[0].removesuffix(".dist-info")
    with zipfile.ZipFile(folder / f"{stem}-{tag}.whl", "w") as file:
        for path in paths:
            if path != record:
                file.write(path.locate(), str(path))
        file.writestr(str(record), "".join(f"{path},,\n" for path in paths))


def installed_by_uv(wheels: Path, folder: Path) -> Path:
    """Return the command that ``uv tool install`` makes of our wheel."""
    (wheel,) = wheels.glob("jobctl-*.whl")
    places = {"UV_TOOL_DIR": "tools", "UV_TOOL_BIN_DIR": "bin", "UV_CACHE_DIR": "cache"}
    alone = ["--offline", "--no-index", f"--find-links={wheels}", f"--python={sys.executable}"]
    uv = Path(sys.executable).parent / "uv"
    run(
        [str(uv), "tool", "install", "--quiet", "--no-config", *alone, str(wheel)],
        folder,
        **{name: str(folder / place) for name, place in places.items()},
    )
    return folder / "bin/jobctl"


def installed_by_pip(wheels: Path, folder: Path) -> Path:
    """Return the command that pip makes of our wheel in an environment of its own, which is what pipx does."""
    (wheel,) = wheels.glob("jobctl-*.whl")
    run([sys.executable, "-m", "venv", "environment"], folder)
    alone = ["--isolated", "--quiet", "--no-index", f"--find-links={wheels}", "--no-compile"]
    run(
        [str(folder / "environment/bin/python"), "-m", "pip", *alone[:2], "install", *alone[2:], str(wheel)],
        folder,
    )
    return folder / "environment/bin/jobctl"


RENDER = ("render", "--model", "qwen3_1.8b", "--tier", "2", "--target", "slurm")


def test_the_wheel_installs_one_name(distributions: Path) -> None:
    (wheel,) = distributions.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        tops = {name.split("/")[0] for name in file.namelist()}
    assert {name for name in tops if not name.endswith(".dist-info")} == {"jobctl"}


def test_the_wheel_holds_every_tracked_file_of_the_rooms(distributions: Path) -> None:
    (wheel,) = distributions.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        packed = set(file.namelist())
    rooms = sorted((REPOSITORY / "src/jobctl").iterdir())
    expected = {
        f"jobctl/{room.name}/{path.relative_to(room)}"
        for room in rooms
        if room.is_dir() and room.name != "__pycache__"
        for path in room.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert len(expected) > 200
    assert expected - packed == set()
    assert "jobctl/py.typed" in packed


def test_the_source_distribution_is_enough_to_build_test_and_read(distributions: Path) -> None:
    (archive,) = distributions.glob("*.tar.gz")
    with tarfile.open(archive) as file:
        names = {name.partition("/")[2] for name in file.getnames()}
    for needed in ("LICENSE", "NOTICE", "Makefile", "README.md", "docs/training.md", "tests/conftest.py"):
        assert needed in names
    assert {"requirements/run.txt", "requirements/test.txt", "bench/document.py"} <= names


def test_the_installed_command_renders(site: Path) -> None:
    text = jobctl(site, *RENDER)
    assert text.startswith("#!/bin/bash\n#SBATCH")
    assert "-m jobctl.trainer.launch" in text


@pytest.mark.parametrize("install", [installed_by_uv, installed_by_pip])
def test_an_installer_of_tools_makes_a_command_that_renders(
    wheels: Path, tmp_path: Path, install: Callable[[Path, Path], Path]
) -> None:
    command = install(wheels, tmp_path)
    text = run([str(command), *RENDER], tmp_path, JOBCTL_ROOT=str(tmp_path / "root"))
    assert text.startswith("#!/bin/bash\n#SBATCH")


def test_packages_of_the_same_words_change_nothing(site: Path) -> None:
    before = jobctl(site, *RENDER)
    for name in OTHERS:
        (site / name).mkdir()
        (site / name / "__init__.py").write_text("raise ImportError('another project')\n")
    assert jobctl(site, *RENDER) == before


def test_what_is_installed_carries_its_licences(distributions: Path) -> None:
    (wheel,) = distributions.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        licences = {name.rpartition("/")[2] for name in file.namelist() if "/licenses/" in name}
        (metadata,) = (name for name in file.namelist() if name.endswith(".dist-info/METADATA"))
        text = file.read(metadata).decode()
        names = set(file.namelist())
    assert licences == {"LICENSE", "NOTICE"}
    for extra in ("k8s", "monitoring", "native", "prep", "trainer"):
        assert f"Provides-Extra: {extra}" in text
    assert "License-Expression: Apache-2.0 AND CC-BY-SA-3.0 AND LicenseRef-Modified-MIT AND MIT" in text
    assert {f"jobctl/prep/data/{name}" for name in SHIPPED} <= names

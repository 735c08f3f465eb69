"""A node's cache while its ranks run: it comes from the shared one, goes back to it, and stops nobody."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from jobctl.jobs.core.exit_codes import EXIT_CONTINUE, EXIT_FAILED, EXIT_FINISHED
from jobctl.trainer.compile_cache import node
from jobctl.trainer.compile_cache.node import ROLE, kind_of_node, open_cache
from tests.trainer.compile_cache.kernels import make_kernel


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Of a job whose node has a disk of its own."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(node, "_places", lambda: iter([tmp_path / "tmp"]))
    monkeypatch.setattr(node, "LEAST_FREE", 0)
    monkeypatch.delenv(ROLE, raising=False)
    return {"JOBCTL_CACHE": str(tmp_path / "shared")}


def compiled(environment: dict[str, str], key: str) -> None:
    """What a rank does."""
    make_kernel(Path(environment["TRITON_CACHE_DIR"]).parent, key)


def published(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in tmp_path.glob("shared/*/triton/*"))


@pytest.mark.parametrize("code", [EXIT_FINISHED, EXIT_CONTINUE])
def test_the_next_job_has_what_this_one_compiled(
    environment: dict[str, str], tmp_path: Path, code: int
) -> None:
    first = open_cache(environment)
    assert first
    compiled(environment, "KEY")
    first.close(code)
    assert list((tmp_path / "tmp").iterdir()) == []

    again = {"JOBCTL_CACHE": environment["JOBCTL_CACHE"]}
    second = open_cache(again)
    assert second
    assert (Path(again["TRITON_CACHE_DIR"]) / "KEY/k.cubin").exists()
    assert again["TORCHINDUCTOR_CACHE_DIR"] == str(second.local / "inductor")
    second.close(EXIT_FINISHED)


def test_what_ranks_left_that_failed_is_not_given_to_others(
    environment: dict[str, str], tmp_path: Path
) -> None:
    cache = open_cache(environment)
    assert cache
    compiled(environment, "KEY")
    cache.close(EXIT_FAILED)
    assert published(tmp_path) == []


def test_only_the_first_node_publishes(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for role, expected in (("is_host=0", []), ("is_host=1", ["KEY"])):
        monkeypatch.setenv(ROLE, role)
        given = dict(environment)
        cache = open_cache(given)
        assert cache
        compiled(given, "KEY")
        cache.close(EXIT_FINISHED)
        assert published(tmp_path) == expected


def test_a_limit_of_nothing_keeps_nothing(environment: dict[str, str], tmp_path: Path) -> None:
    environment["JOBCTL_CACHE_GIB"] = "0"
    cache = open_cache(environment)
    assert cache
    compiled(environment, "KEY")
    cache.close(EXIT_FINISHED)
    assert published(tmp_path) == []


def test_a_folder_of_the_sites_own_stays(environment: dict[str, str]) -> None:
    own = {"TRITON_CACHE_DIR": "/my/triton", "TORCHINDUCTOR_CACHE_DIR": "/my/inductor"}
    given = environment | own
    assert open_cache(given) is None
    assert given == environment | own
    assert open_cache({}) is None


def test_without_room_on_the_node_the_compilers_get_the_shared_folder(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node, "LEAST_FREE", 1 << 60)
    assert open_cache(environment) is None
    assert environment["TRITON_CACHE_DIR"] == str(tmp_path / "shared" / kind_of_node() / "triton")


def test_a_shared_folder_that_cannot_be_used_stops_nobody(
    environment: dict[str, str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "shared").write_text("no folder")
    cache = open_cache(environment)
    assert cache
    compiled(environment, "KEY")
    cache.close(EXIT_FINISHED)
    assert "jobctl: compiled kernels: publish failed: " in capfd.readouterr().err


def test_a_file_system_that_hangs_costs_seconds(
    environment: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    hangs = tmp_path / "python"
    hangs.write_text("#!/bin/bash\nexec sleep 600\n")
    hangs.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(hangs))
    monkeypatch.setattr(node, "SEED_SECONDS", 0.1)
    (tmp_path / "shared" / kind_of_node()).mkdir(parents=True)
    cache = open_cache(environment)
    assert cache
    assert "seed took more than 0.1 s" in capfd.readouterr().err
    monkeypatch.undo()
    cache.close(EXIT_FAILED)


def test_what_a_killed_launcher_left_is_removed_and_what_a_living_one_has_stays(
    environment: dict[str, str], tmp_path: Path
) -> None:
    living = open_cache(dict(environment))
    assert living
    dead = tmp_path / "tmp" / f"{node.PREFIX}{os.getuid()}-dead"
    shutil.copytree(living.local, dead)
    other = tmp_path / "tmp" / f"{node.PREFIX}99999-other"
    shutil.copytree(living.local, other)

    cache = open_cache(environment)
    assert cache
    assert sorted((tmp_path / "tmp").iterdir()) == sorted([living.local, cache.local, other])
    cache.close(EXIT_FAILED)
    living.close(EXIT_FAILED)


def test_nodes_of_another_kind_have_another_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    here = kind_of_node()
    assert "/" not in here
    monkeypatch.setattr(node, "_instructions", lambda: "avx512")
    assert kind_of_node() != here


def test_the_launcher_gives_its_ranks_the_nodes_folder(tmp_path: Path) -> None:
    """The launcher itself, whose ranks are wrong usage and end at once."""
    seen = tmp_path / "seen"
    text = (
        "import os, sys\nfrom jobctl.trainer import launch\n"
        "def ranks(*_):\n"
        f"    open({str(seen)!r}, 'w').write(os.environ['TRITON_CACHE_DIR'])\n"
        "    return 0\n"
        "launch.run_in_place = ranks\n"
        f"sys.exit(launch.main(['--standalone', '--nproc_per_node=1', '--', '--run_dir={tmp_path}/run', "
        "'--model_name=qwen3_smoke', '--dataset=x']))"
    )
    environment = {**os.environ, "JOBCTL_CACHE": str(tmp_path / "shared"), "TMPDIR": str(tmp_path)}
    for name in ("TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR"):
        environment.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-c", text], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "jobctl-compiled-" in seen.read_text()
    assert not Path(seen.read_text()).exists(), "removed at the end"

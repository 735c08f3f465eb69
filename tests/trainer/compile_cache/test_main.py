"""What goes from the shared cache to a node and back."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from jobctl.trainer.compile_cache.__main__ import SEEDED, publish, seed
from jobctl.trainer.compile_cache.entries import entries
from tests.trainer.compile_cache.kernels import make_file, make_kernel

LIMIT = 1 << 30


def places(cache: Path) -> list[str]:
    return sorted(str(entry.place) for entry in entries(cache))


def test_seeding_takes_the_newest_up_to_its_limit(tmp_path: Path) -> None:
    for number in range(4):
        make_kernel(tmp_path / "shared", f"KEY{number}", written=1000.0 + number)
    size = next(entries(tmp_path / "shared")).size
    (tmp_path / "local").mkdir()
    assert seed(tmp_path / "shared", tmp_path / "local", 2 * size) == 2
    assert places(tmp_path / "local") == ["triton/KEY2", "triton/KEY3"]


def test_what_came_from_the_shared_cache_does_not_go_back(tmp_path: Path) -> None:
    """Else each job would bring back what had to go."""
    shared = tmp_path / "shared/kind"
    make_kernel(shared, "OLD")
    (tmp_path / "local").mkdir()
    seed(shared, tmp_path / "local", LIMIT)
    make_kernel(tmp_path / "local", "NEW")
    (shared / "triton/OLD").rename(tmp_path / "evicted")
    assert publish(shared, tmp_path / "local", LIMIT) == 1
    assert places(shared) == ["triton/NEW"]


def test_the_list_of_a_kernel_names_the_shared_place(tmp_path: Path) -> None:
    make_kernel(tmp_path / "local", "KEY")
    publish(tmp_path / "shared/kind", tmp_path / "local", LIMIT)
    manifest = json.loads((tmp_path / "shared/kind/triton/KEY/__grp__k.json").read_text())
    assert manifest["child_paths"]["k.cubin"] == str(tmp_path / "shared/kind/triton/KEY/k.cubin")


def test_what_nobody_could_keep_is_not_published(tmp_path: Path) -> None:
    """It would drive out all others, and be driven out itself."""
    make_kernel(tmp_path / "local", "SMALL")
    size = next(entries(tmp_path / "local")).size
    large = make_file(tmp_path / "local", "fxlarge", "x" * 20 * size)
    assert publish(tmp_path / "shared/kind", tmp_path / "local", 10 * size) == 1
    assert places(tmp_path / "shared/kind") == ["triton/SMALL"]
    assert large.exists()


def test_the_folders_of_other_kinds_of_nodes_count_towards_the_limit(tmp_path: Path) -> None:
    for number in range(3):
        make_kernel(tmp_path / "shared/old", f"KEY{number}", written=1000.0 + number)
    size = next(entries(tmp_path / "shared/old")).size
    make_kernel(tmp_path / "local", "NEW")
    assert publish(tmp_path / "shared/kind", tmp_path / "local", 2 * size) == 1
    assert places(tmp_path / "shared/kind") == ["triton/NEW"]
    assert len(places(tmp_path / "shared/old")) < 3


def test_only_this_user_may_write_where_compilers_read(tmp_path: Path) -> None:
    """What lies there is executed."""
    (tmp_path / "local").mkdir()
    publish(tmp_path / "shared/kind", tmp_path / "local", LIMIT)
    assert (tmp_path / "shared/kind").stat().st_mode & 0o777 == 0o700


def test_as_a_process_it_seeds_and_publishes(tmp_path: Path) -> None:
    make_kernel(tmp_path / "shared", "KEY")
    (tmp_path / "local").mkdir()
    command = [sys.executable, "-m", "jobctl.trainer.compile_cache"]
    folders = [str(tmp_path / "shared"), str(tmp_path / "local"), str(LIMIT)]
    subprocess.run([*command, "seed", *folders], check=True)
    assert places(tmp_path / "local") == ["triton/KEY"]
    assert (tmp_path / "local" / SEEDED).read_text() == "triton/KEY\n"

    make_kernel(tmp_path / "local", "OURS")
    subprocess.run([*command, "publish", *folders], check=True)
    assert places(tmp_path / "shared") == ["triton/KEY", "triton/OURS"]

"""An entry of a cache is whole or not there, whoever writes, reads and removes at the same moment."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobctl.trainer.compile_cache import entries as module
from jobctl.trainer.compile_cache.__main__ import publish, seed
from jobctl.trainer.compile_cache.entries import Entry, copy, entries, evict, moved, remove_left
from tests.trainer.compile_cache.kernels import PARTS, make_file, make_kernel, writers

KERNELS = 12
ROUNDS = 15
LIMIT = 1 << 30


def places(cache: Path) -> list[str]:
    return sorted(str(entry.place) for entry in entries(cache))


def test_kernels_are_folders_and_inductors_entries_are_files(tmp_path: Path) -> None:
    make_kernel(tmp_path, "KEY")
    make_file(tmp_path, "abc.py")
    assert places(tmp_path) == ["inductor/ab/abc.py", "triton/KEY"]
    assert list(entries(tmp_path / "absent")) == []


def test_what_is_half_written_or_a_lock_is_left_out(tmp_path: Path) -> None:
    make_kernel(tmp_path, "EMPTY")
    (tmp_path / "triton/EMPTY/k.cubin").write_text("")
    kernel = make_kernel(tmp_path, "KEY")
    (kernel / "tmp.pid_1_x").mkdir()
    (kernel / "tmp.pid_1_x/k.ptx").write_text("half")
    (kernel / "lock").touch()
    make_file(tmp_path, "a.lock")
    make_file(tmp_path, ".1.2.tmp")
    (tmp_path / "inductor/link").symlink_to("/etc/passwd")
    assert places(tmp_path) == ["triton/KEY"]

    (entry,) = entries(tmp_path)
    assert copy(entry, tmp_path, tmp_path / "other", durably=True)
    assert sorted(path.name for path in (tmp_path / "other/triton/KEY").iterdir()) == [
        "__grp__k.json",
        *sorted(PARTS),
    ]


def test_triton_finds_a_kernel_in_its_new_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the list as it was, the real Triton would take each file for missing, and compile again."""
    from triton.runtime.cache import FileCacheManager

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "first/triton"))
    written = FileCacheManager("KEY")
    group = {name: written.put(name.encode(), name) for name in PARTS}
    written.put_group("k.json", group)
    publish(tmp_path / "shared/kind", tmp_path / "first", LIMIT)
    (tmp_path / "first").rename(tmp_path / "gone")
    (tmp_path / "second").mkdir()
    assert seed(tmp_path / "shared/kind", tmp_path / "second", LIMIT) == 1

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "second/triton"))
    assert FileCacheManager("KEY").get_group("k.json") == {
        name: str(tmp_path / "second/triton/KEY" / name) for name in PARTS
    }


@pytest.mark.parametrize("text", [b"", b"[]", b'{"child_paths": [1]}', b"\xff"])
def test_a_list_of_another_form_stays_as_it_is(text: bytes) -> None:
    assert moved(text, Path("/a")) == text


def test_the_second_publisher_drops_his_own(tmp_path: Path) -> None:
    make_kernel(tmp_path / "one", "KEY", "one")
    make_kernel(tmp_path / "two", "KEY", "two")
    assert publish(tmp_path / "shared/kind", tmp_path / "one", LIMIT) == 1
    assert publish(tmp_path / "shared/kind", tmp_path / "two", LIMIT) == 0
    assert writers(tmp_path / "shared/kind/triton/KEY") == {"one"}


def publish_again(shared: Path, folder: Path, name: str) -> None:
    """What one job after another on a node does."""
    for number in range(ROUNDS):
        local = folder / f"{name}-{number}"
        for key in range(KERNELS):
            make_kernel(local, f"KEY{key}", f"{name}-{number}")
        publish(shared, local, LIMIT)
        evict([shared], 150 * KERNELS // 2)


def seed_again(shared: Path, folder: Path, failures: object) -> None:
    for number in range(ROUNDS * 2):
        local = folder / f"reader-{number}"
        local.mkdir()
        seed(shared, local, LIMIT)
        for kernel in (local / "triton").glob("*"):
            if len(writers(kernel)) != 1:
                failures.put(kernel.name)  # type: ignore[attr-defined]


def test_no_reader_sees_files_of_two_writers(tmp_path: Path) -> None:
    """Compilations of one kernel may differ, and their files must not be mixed: results were wrong without a word."""
    context = multiprocessing.get_context("fork")
    failures = context.Queue()
    shared = tmp_path / "shared/kind"
    jobs = [context.Process(target=publish_again, args=(shared, tmp_path, name)) for name in ("a", "b")]
    jobs.append(context.Process(target=seed_again, args=(shared, tmp_path, failures)))
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()

    assert [job.exitcode for job in jobs] == [0, 0, 0]
    assert failures.empty()
    assert not any((shared / ".aside").iterdir())
    assert all(len(writers(kernel)) == 1 for kernel in (shared / "triton").glob("*"))


def test_the_oldest_go_first_of_all_kinds_of_nodes(tmp_path: Path) -> None:
    for number in range(10):
        make_kernel(tmp_path / f"kind{number % 2}", f"KEY{number}", written=1000.0 + number)
    size = sum(entry.size for kind in tmp_path.iterdir() for entry in entries(kind))

    assert evict(tmp_path.iterdir(), size) == 0
    assert evict(sorted(tmp_path.iterdir()), size // 2) == 6
    assert sorted(path.name for path in tmp_path.glob("kind*/triton/*")) == ["KEY6", "KEY7", "KEY8", "KEY9"]


def test_an_entry_that_vanishes_is_skipped(tmp_path: Path) -> None:
    gone = Entry(Path("triton/GONE"), 1, 0.0)
    assert not copy(gone, tmp_path / "shared", tmp_path / "local", durably=False)
    assert not any((tmp_path / "local/.aside").iterdir())


def test_what_a_killed_job_left_aside_goes_after_an_hour(tmp_path: Path) -> None:
    (tmp_path / ".aside").mkdir()
    for name, age in (("old", 7200.0), ("new", 0.0)):
        (tmp_path / ".aside" / name).mkdir()
        os.utime(tmp_path / ".aside" / name, (10_000 - age, 10_000 - age))
    remove_left(tmp_path, 10_000 - 3600.0)
    assert [path.name for path in (tmp_path / ".aside").iterdir()] == ["new"]


@pytest.mark.parametrize("republished", [False, True], ids=["removed", "made anew"])
@pytest.mark.parametrize("seen", [0, 1, len(PARTS)])
def test_an_entry_that_is_removed_while_it_is_copied_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seen: int, republished: bool
) -> None:
    """Not even an empty folder, and no files of two writers where another job has put its own there."""
    folder = make_kernel(tmp_path / "shared", "KEY", "one")
    (entry,) = entries(tmp_path / "shared")
    files = module._files

    def evicted_meanwhile(source: Path) -> Iterator[Path]:
        listed = list(files(source))
        yield from listed[:seen]
        folder.rename(tmp_path / "evicted")
        if republished:
            make_kernel(tmp_path / "shared", "KEY", "two")
            yield from listed[seen:]

    monkeypatch.setattr(module, "_files", evicted_meanwhile)
    assert not copy(entry, tmp_path / "shared", tmp_path / "local", durably=False)
    assert not (tmp_path / "local/triton/KEY").exists()
    assert not any((tmp_path / "local/.aside").iterdir())

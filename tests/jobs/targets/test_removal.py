"""What removes a run: a directory that this host sees, or a cluster with a note of it on this host."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from jobctl.jobs.core.errors import UserError
from jobctl.jobs.runs.store import Run, State, Status
from jobctl.jobs.spec.resolution import Choices, resolve
from jobctl.jobs.targets import removal
from jobctl.jobs.targets.protocol import Removing
from jobctl.jobs.targets.registry import BUILT_IN, TargetEntry
from jobctl.jobs.targets.removal import ClusterRemover, DirectoryRemover, remover_of
from tests.jobs.cli.recorded import recorded


class Volumes:
    """A cluster whose volumes this test sees: it notes what is removed from them."""

    def __init__(self) -> None:
        self.removed: list[tuple[str, bool]] = []

    def check_removable(self, run: Run, trusted: Sequence[str]) -> None:
        raise UserError(f"{run.name} is at work")

    @contextlib.contextmanager
    def removing(self, runs: Sequence[Run]) -> Iterator[Removing]:
        yield self

    def size(self, run: Run, checkpoints: bool) -> int:
        return 5000

    def remove(self, run: Run, checkpoints: bool) -> None:
        self.removed.append((run.name, checkpoints))


@pytest.fixture
def volumes(monkeypatch: pytest.MonkeyPatch) -> Volumes:
    cluster = Volumes()
    monkeypatch.setattr(removal, "load_target", lambda name: cluster)
    return cluster


def run_on(root: Path, target: str, name: str = "demo", namespace: str = "jobctl") -> Run:
    sets = (f"kubernetes.namespace={namespace}",) if target == "k8s" else ()
    choices = Choices(model="qwen3_smoke", target=target, run=name, sets=sets)
    return recorded(root, resolve(choices, version="0.0.0", root=str(root)).spec)


def status_of(run: Run, state: State = "finished", end: str = "") -> Status:
    return Status(run=run.name, state=state, target=run.target, end=end)


@pytest.mark.parametrize("entry", BUILT_IN, ids=lambda entry: entry.name)
def test_the_place_of_the_records_decides_what_removes_a_run(entry: TargetEntry, root: Path) -> None:
    run = run_on(root, "local")
    of_target = type("Run", (), {"target": entry.name, "name": run.name})()
    assert isinstance(remover_of(of_target, root), ClusterRemover) == entry.keeps_records


@pytest.mark.parametrize("target", ["local", "slurm"])
def test_a_directory_goes_whatever_the_scheduler_still_knows(target: str, root: Path) -> None:
    run = run_on(root, target)
    remover = remover_of(run, root)
    assert remover.state(run, status_of(run, "lost")) == "submitted"
    with remover.removing([run]) as access:
        assert access.size(run, checkpoints=False) > 0
        access.remove(run, checkpoints=False)

    assert not run.path.exists()


def test_a_directory_is_as_old_as_its_last_attempt(root: Path) -> None:
    run = run_on(root, "local")
    os.utime(run.path / "attempts", (1000, 1000))
    later = status_of(run, end="2030-01-01T00:00:00Z")
    assert DirectoryRemover().last_sign(run, later) == 1000


def test_a_run_of_a_cluster_is_as_old_as_its_end(root: Path) -> None:
    run = run_on(root, "k8s")
    os.utime(run.path / "attempts", (1000, 1000))
    remover = ClusterRemover("k8s", root)
    assert remover.last_sign(run, status_of(run, end="1970-01-01T01:00:00Z")) == 3600
    assert remover.last_sign(run, status_of(run)) == 1000


def test_the_note_of_a_clusters_run_goes_after_its_files(root: Path, volumes: Volumes) -> None:
    run = run_on(root, "k8s")
    with remover_of(run, root).removing([run]) as access:
        assert access.size(run, checkpoints=False) > 5000
        access.remove(run, checkpoints=False)

    assert volumes.removed == [("demo", False)]
    assert not run.path.exists()


def test_where_the_volume_fails_the_note_stays(
    root: Path, volumes: Volumes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the note the run is still found, and its removal can be repeated."""

    def breaks(run: Run, checkpoints: bool) -> None:
        raise UserError("the connection to the volume broke")

    monkeypatch.setattr(volumes, "remove", breaks)
    run = run_on(root, "k8s")
    with remover_of(run, root).removing([run]) as access, pytest.raises(UserError, match="broke"):
        access.remove(run, checkpoints=False)

    assert (run.path / "run.json").is_file()


@pytest.mark.parametrize(("target", "namespace"), [("k8s", "theirs"), ("local", "")])
def test_a_directory_of_the_same_name_is_not_taken_for_the_note(
    target: str, namespace: str, root: Path, tmp_path: Path, volumes: Volumes
) -> None:
    other = run_on(root, target, namespace=namespace)
    run = run_on(tmp_path / "elsewhere", "k8s")
    with remover_of(run, root).removing([run]) as access:
        assert access.size(run, checkpoints=False) == 5000
        access.remove(run, checkpoints=False)

    assert volumes.removed == [("demo", False)]
    assert other.path.is_dir()


def test_the_cluster_says_what_is_at_work(root: Path, volumes: Volumes) -> None:
    run = run_on(root, "k8s")
    with pytest.raises(UserError, match="demo is at work"):
        remover_of(run, root).check(run, ())


def test_a_target_that_removes_nothing_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removal, "load_target", lambda name: object())
    run = run_on(root, "k8s")
    with pytest.raises(UserError, match="target k8s cannot remove the files of run 'demo'"):
        remover_of(run, root).check(run, ())

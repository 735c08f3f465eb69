import os
import shutil
from pathlib import Path

import pytest

from jobctl.jobs.core import durable
from jobctl.trainer.checkpoint import publication


def make(run: Path, *steps: int) -> None:
    for step in steps:
        publication.folder(run, step).mkdir(parents=True)


def publish(final: Path, *, latest: bool = True, best: bool = False) -> None:
    publication.temporary_folder(final).mkdir(parents=True)
    publication.publish(final, latest=latest, best=best)


def test_retention_keeps_the_last_every_nth_latest_and_best(tmp_path: Path) -> None:
    for step in range(10, 110, 10):
        publish(publication.folder(tmp_path, step), best=step == 30)

    assert publication.prune(tmp_path, keep_last=2, keep_every=50) == [10, 20, 40, 60, 70, 80]
    assert publication.steps(tmp_path) == [30, 50, 90, 100]


def test_latest_is_tried_first_and_then_the_ones_before(tmp_path: Path) -> None:
    make(tmp_path, 1, 2, 30)
    assert publication.candidates(tmp_path) == [30, 2, 1]
    (tmp_path / "checkpoints/LATEST").write_text("step-2\n")
    assert publication.candidates(tmp_path) == [2, 1]
    (tmp_path / "checkpoints/LATEST").write_text("step-999\n")
    assert publication.candidates(tmp_path) == [30, 2, 1]


@pytest.mark.parametrize("content", [b"\xff\xfe step-1", b"", b"step-1/../step-2", b"/etc", b"step-\xc2\xb2"])
def test_a_pointer_that_names_no_checkpoint_counts_for_nothing(tmp_path: Path, content: bytes) -> None:
    make(tmp_path, 1, 2)
    (tmp_path / "checkpoints/LATEST").write_bytes(content)
    assert publication.pointed(tmp_path, publication.LATEST) is None
    assert publication.candidates(tmp_path) == [2, 1]


def test_a_published_checkpoint_takes_the_place_of_one_that_was_rolled_back(tmp_path: Path) -> None:
    make(tmp_path, 4)
    (publication.folder(tmp_path, 4) / "old").touch()

    publish(publication.folder(tmp_path, 4))

    assert not list(publication.folder(tmp_path, 4).iterdir())
    assert publication.pointed(tmp_path, publication.LATEST) == 4
    assert publication.pointed(tmp_path, publication.BEST) is None


def test_leftovers_of_a_killed_attempt_are_cleared_and_nothing_else(tmp_path: Path) -> None:
    make(tmp_path, 1)
    folder = tmp_path / "checkpoints"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (folder / ".writing-step-2").mkdir()
    (folder / ".writing-step-2/file").touch()
    (folder / ".removing-step-0").mkdir()
    (folder / ".writing-step-3").symlink_to(elsewhere)
    (folder / ".LATEST.0123.partial").write_text("step-2\n")
    (folder / ".BEST.0123.partial").touch()
    (folder / "damaged-step-7").mkdir()
    (folder / "LATEST").write_text("step-1\n")
    (folder / ".notes").touch()

    publication.clear_leftovers(tmp_path)

    assert sorted(path.name for path in folder.iterdir()) == [".notes", "LATEST", "damaged-step-7", "step-1"]
    assert elsewhere.is_dir()


def test_a_checkpoint_set_aside_is_no_candidate_any_more(tmp_path: Path) -> None:
    make(tmp_path, 1, 2)
    assert publication.set_aside(tmp_path, 2).name == "damaged-step-2"
    assert publication.steps(tmp_path) == [1]
    assert [path.name for path in publication.damaged(tmp_path)] == ["damaged-step-2"]


def test_best_may_name_weights_alone_which_are_no_candidate(tmp_path: Path) -> None:
    publish(publication.folder(tmp_path, 2), best=True)
    publish(publication.weights_folder(tmp_path, 5), latest=False, best=True)

    assert publication.candidates(tmp_path) == [2]
    assert publication.pointed(tmp_path, publication.LATEST) == 2
    assert publication.pointed(tmp_path, publication.BEST) is None
    assert publication.pointed_folder(tmp_path, publication.BEST) == publication.weights_folder(tmp_path, 5)


def test_of_weights_alone_only_the_best_are_kept(tmp_path: Path) -> None:
    for step in (2, 4):
        publish(publication.folder(tmp_path, step), best=step == 2)
    publish(publication.weights_folder(tmp_path, 5), latest=False, best=True)
    publish(publication.weights_folder(tmp_path, 6), latest=False, best=True)

    assert publication.prune(tmp_path, keep_last=1, keep_every=0) == [2]
    names = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert names == {"step-4", "weights-6", "LATEST", "BEST"}

    publish(publication.folder(tmp_path, 8), best=True)
    publication.prune(tmp_path, keep_last=1, keep_every=0)
    assert not publication.weights_folder(tmp_path, 6).exists()


def test_a_name_appears_only_when_all_before_it_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut at any moment leaves a whole checkpoint under each name that exists."""
    calls: list[str] = []
    rename = os.rename
    replace = os.replace

    def renamed(source: Path, target: Path) -> None:
        calls.append(f"rename to {Path(target).name}")
        rename(source, target)

    def replaced(source: Path, target: Path) -> None:
        calls.append(f"rename to {Path(target).name}")
        replace(source, target)

    def synced(folder: Path) -> None:
        calls.append(f"sync {folder.name}")

    monkeypatch.setattr(os, "rename", renamed)
    monkeypatch.setattr(os, "replace", replaced)
    monkeypatch.setattr(publication, "sync_folder", synced)
    monkeypatch.setattr(durable, "sync_folder", synced)
    publish(publication.folder(tmp_path, 4), best=True)

    assert calls == [
        "sync .writing-step-4",
        "rename to step-4",
        "sync checkpoints",
        "rename to LATEST",
        "sync checkpoints",
        "rename to BEST",
        "sync checkpoints",
    ]


def test_a_publication_that_fails_leaves_the_pointers_at_the_checkpoint_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(publication.folder(tmp_path, 2), best=True)

    def refused(source: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "rename", refused)
    with pytest.raises(OSError, match="No space"):
        publish(publication.folder(tmp_path, 4), best=True)
    assert publication.pointed(tmp_path, publication.LATEST) == 2
    assert publication.pointed(tmp_path, publication.BEST) == 2
    assert publication.candidates(tmp_path) == [2]


@pytest.mark.parametrize("kept", ["latest", "best"])
def test_each_pointer_moves_only_if_it_is_asked_for(tmp_path: Path, kept: str) -> None:
    publish(publication.folder(tmp_path, 2), best=True)
    publish(publication.folder(tmp_path, 4), latest=kept != "latest", best=kept != "best")
    assert publication.pointed(tmp_path, publication.LATEST) == (2 if kept == "latest" else 4)
    assert publication.pointed(tmp_path, publication.BEST) == (2 if kept == "best" else 4)


def test_a_checkpoint_loses_its_name_before_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, 4)
    (publication.folder(tmp_path, 4) / "data").touch()
    removed: list[list[str]] = []

    def killed(path: Path, ignore_errors: bool) -> None:
        # What a kill at this moment would leave.
        removed.append(sorted(other.name for other in path.parent.iterdir()))

    monkeypatch.setattr(shutil, "rmtree", killed)
    publication.discard(publication.folder(tmp_path, 4))
    assert removed[-1] == [".removing-step-4"]
    assert publication.steps(tmp_path) == []


def test_what_an_earlier_removal_left_does_not_stop_the_next(tmp_path: Path) -> None:
    make(tmp_path, 4)
    leftover = tmp_path / "checkpoints" / ".removing-step-4"
    leftover.mkdir()
    (leftover / "data").touch()
    publication.discard(publication.folder(tmp_path, 4))
    publication.discard(publication.folder(tmp_path, 4))
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_of_two_checkpoints_that_were_set_aside_at_one_step_the_later_is_kept(tmp_path: Path) -> None:
    for content in ("first", "second"):
        make(tmp_path, 4)
        (publication.folder(tmp_path, 4) / "data").write_text(content)
        aside = publication.set_aside(tmp_path, 4)
    assert (aside / "data").read_text() == "second"
    assert publication.damaged(tmp_path) == [aside]


def test_latest_stays_though_it_is_not_among_the_newest(tmp_path: Path) -> None:
    """A kill ended the publication of the later ones."""
    make(tmp_path, 2, 3, 4)
    (tmp_path / "checkpoints/LATEST").write_text("step-2\n")
    assert publication.prune(tmp_path, keep_last=1, keep_every=0) == [3]
    assert publication.steps(tmp_path) == [2, 4]


def test_without_pointers_the_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    make(tmp_path, 9, 10, 11, 100)
    assert publication.prune(tmp_path, keep_last=2, keep_every=0) == [9, 10]
    assert publication.prune(tmp_path, keep_last=9, keep_every=0) == []
    assert publication.steps(tmp_path) == [11, 100]


def test_only_folders_with_the_name_of_a_step_are_checkpoints(tmp_path: Path) -> None:
    assert publication.steps(tmp_path) == []
    assert publication.damaged(tmp_path) == []
    make(tmp_path, 100, 20)
    for name in (
        "step-",
        "step-x",
        "step-3.old",
        "my-step-4",
        "step-5 ",
        "weights-6",
        ".writing-step-7",
        "damaged-step-8",
    ):
        (tmp_path / "checkpoints" / name).mkdir()
    assert publication.steps(tmp_path) == [20, 100]


def test_a_run_that_has_no_checkpoint_yet_gets_its_folder(tmp_path: Path) -> None:
    publication.clear_leftovers(tmp_path)
    assert list((tmp_path / "checkpoints").iterdir()) == []

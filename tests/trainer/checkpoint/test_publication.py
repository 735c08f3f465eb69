from pathlib import Path

import pytest

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

import json
import logging
import resource
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from jobctl.jobs.core.errors import UserError
from jobctl.trainer.checkpoint import checkpointer as checkpointing
from jobctl.trainer.checkpoint import publication
from jobctl.trainer.checkpoint.contents import read_contents
from jobctl.trainer.checkpoint.save import Holds, Report
from jobctl.trainer.checkpoint.weights import load_model_weights
from jobctl.trainer.distributed import SHARDS_ON_CPU
from tests.trainer.checkpoint.saving import checkpointer, spoil, state
from tests.trainer.corpus import arguments, write_corpus
from tests.trainer.running import losses, on_ranks, prepare, records, train

SAVED = {"max_iters": 6, "checkpoint_interval": 2, "keep_last_checkpoints": 9}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("data") / "data")


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("finished") / "run"
    assert train(arguments(data, run, **SAVED)) == 0
    return run


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A finished run with checkpoints of steps 2, 4 and 6, the test's own."""
    return shutil.copytree(finished, tmp_path / "run")


def test_a_checkpoint_holds_weights_optimiser_and_counters(run: Path) -> None:
    contents = read_contents(publication.folder(run, 4))
    state = contents.state
    assert (state.step, state.samples, state.tokenizer) == (4, 8, "bytes")
    assert set(state.random) >= {"cpu"}
    names = contents.table.tensors.keys()
    assert {"model.norm.weight", "optimizer.norm.weight.exp_avg", "optimizer.norm.weight.step"} <= names
    assert publication.pointed(run, "LATEST") == 6
    assert not list((run / "checkpoints").glob(".*"))


def test_a_damaged_checkpoint_is_put_aside_loudly_and_the_one_before_used(
    data: Path, run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = load_model_weights(run)[1]
    spoil(publication.folder(run, 6) / "rank-00000-00.safetensors", "flipped")
    spoil(publication.folder(run, 4) / "rank-00000-00.safetensors", "truncated")
    with caplog.at_level(logging.WARNING):
        training = prepare(arguments(data, run, **SAVED))
    assert training.step == 2
    assert "step-6 IS DAMAGED" in caplog.text
    assert "their checksum does not match" in caplog.text
    assert "step-4 IS DAMAGED" in caplog.text
    assert training.train_to_the_end() == 0
    assert all((load_model_weights(run)[1][name] == weight).all() for name, weight in before.items())
    assert (run / "checkpoints/damaged-step-6").is_dir()


def test_all_damaged_is_an_error(data: Path, run: Path) -> None:
    for step in publication.steps(run):
        spoil(publication.folder(run, step) / "state.json", "absent")
    for _ in range(2):  # also when they have been put aside: nothing begins anew unasked
        with pytest.raises(UserError, match=r"every checkpoint of .* is damaged"):
            train(arguments(data, run, **SAVED))
    assert train(arguments(data, run, init_from="scratch", **SAVED)) == 0
    with pytest.raises(UserError, match="no checkpoint"):
        load_model_weights(run / "nothing")


def test_a_sharded_checkpoint_loads_whole_and_its_damage_is_agreed_on_by_all_ranks(
    data: Path, tmp_path: Path
) -> None:
    flags: dict[str, Any] = {**SAVED, "use_fsdp": SHARDS_ON_CPU}
    assert on_ranks(2, arguments(data, tmp_path, **flags)) == [0]
    config, weights = load_model_weights(tmp_path)
    assert config.hidden_size == 32
    assert weights["embed_tokens.weight"].shape == (256, 32)
    assert {w.dtype for w in weights.values()} == {torch.float32}
    assert sum(w.numel() for w in weights.values()) == 35_040
    assert json.loads((publication.folder(tmp_path, 6) / "state.json").read_text())["step"] == 6
    whole = losses(tmp_path)
    assert (publication.folder(tmp_path, 6) / "rank-00001-00.safetensors").exists()
    spoil(publication.folder(tmp_path, 6) / "rank-00001-00.safetensors", "flipped")
    assert on_ranks(2, arguments(data, tmp_path, **flags)) == [0]
    assert records(tmp_path, "start")[-1]["startup_info"]["resumed_from_step"] == 4
    assert losses(tmp_path) == whole


def test_a_save_that_a_rank_has_left_is_a_failed_one(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    training = prepare(arguments(data, tmp_path, **SAVED))

    def gathered(*_: object, **__: object) -> list[object]:
        raise RuntimeError("connection closed by peer")

    checkpoints = training.run.checkpoints
    with monkeypatch.context() as alone:
        alone.setattr(type(checkpoints.world), "gathered", gathered)
        training.save("everything", best=False, must=True)
        assert not checkpoints.wait()
    assert "checkpoint of step 0 FAILED, training continues: RuntimeError: connection closed" in caplog.text


@pytest.fixture
def full_disk() -> Iterator[Any]:
    """While it is called with True, no file of this process may grow beyond 20 kB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(full: bool) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000 if full else before[1], before[1]))

    yield fill
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_fails_the_save_and_not_the_training(
    data: Path,
    tmp_path: Path,
    full_disk: Any,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    training = prepare(arguments(data, tmp_path, **SAVED))
    whole_save = training.save

    def save(holds: Holds, best: bool, must: bool) -> None:
        full_disk(training.step == 4)
        whole_save(holds, best, must)
        training.run.checkpoints.wait()
        full_disk(False)

    monkeypatch.setattr(training, "save", save)
    with caplog.at_level(logging.WARNING):
        assert training.train_to_the_end() == 0
    assert "checkpoint of step 4 FAILED, training continues" in caplog.text
    assert publication.steps(tmp_path) == [2, 6]
    assert not list((tmp_path / "checkpoints").glob(".*"))
    assert len(losses(tmp_path)) == 6


@pytest.mark.parametrize(("asked_to_stop", "word"), [(False, "finished"), (True, "stopped")])
def test_a_last_save_that_fails_is_a_failure_whichever_way_out(
    data: Path,
    tmp_path: Path,
    full_disk: Any,
    monkeypatch: pytest.MonkeyPatch,
    asked_to_stop: bool,
    word: str,
) -> None:
    training = prepare(arguments(data, tmp_path, **SAVED | {"checkpoint_interval": 0}))
    whole_wait = training.run.checkpoints.wait
    monkeypatch.setattr(training.run.checkpoints, "wait", lambda: (whole_wait(), full_disk(False))[0])
    whole_write = training.run.checkpoints._write
    monkeypatch.setattr(training.run.checkpoints, "_write", lambda *a: (full_disk(True), whole_write(*a)))
    monkeypatch.setattr(training.stop, "is_asked", lambda: asked_to_stop)
    with pytest.raises(
        RuntimeError, match=f"training has {word}, but its last checkpoint could not be written"
    ):
        training.train_to_the_end()
    assert records(tmp_path, "summary")[-1]["status"] == "failed"


def test_what_a_killed_save_left_is_cleared(data: Path, run: Path) -> None:
    publication.temporary_folder(publication.folder(run, 8)).mkdir()
    (publication.temporary_folder(publication.folder(run, 8)) / "rank-00000-00.safetensors").write_bytes(
        b"half"
    )
    prepare(arguments(data, run, **SAVED))
    assert not publication.temporary_folder(publication.folder(run, 8)).exists()


class SlowStorage:
    """Writes go on only while they are allowed to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.allowed = threading.Event()
        self.begun = threading.Event()
        write_files = checkpointing.write_files

        def write(*arguments: Any) -> Any:
            self.begun.set()
            assert self.allowed.wait(60)
            return write_files(*arguments)

        monkeypatch.setattr(checkpointing, "write_files", write)


@pytest.fixture
def storage(monkeypatch: pytest.MonkeyPatch) -> SlowStorage:
    return SlowStorage(monkeypatch)


def test_while_storage_is_busy_a_save_is_skipped_and_said(
    tmp_path: Path, storage: SlowStorage, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = checkpointer(tmp_path, {"model.w": torch.ones(2)}, when_busy="skip")
    assert not checkpoints.save(state(1), must=False).skipped
    assert storage.begun.wait(60)

    skipped = checkpoints.save(state(2), must=False)
    storage.allowed.set()

    assert skipped.skipped
    assert skipped.writing_seconds > 0
    assert checkpoints.wait()
    assert publication.steps(tmp_path) == [1]
    assert "checkpoint of step 2 SKIPPED: storage has taken" in caplog.text
    assert "to write the checkpoint of step 1" in caplog.text
    assert not checkpoints.save(state(3), must=False).skipped
    assert checkpoints.wait()
    assert publication.steps(tmp_path) == [1, 3]


@pytest.mark.parametrize(("when_busy", "must"), [("wait", False), ("skip", True)])
def test_a_save_that_waits_for_storage_says_so(
    tmp_path: Path, storage: SlowStorage, caplog: pytest.LogCaptureFixture, when_busy: Any, must: bool
) -> None:
    checkpoints = checkpointer(tmp_path, {"model.w": torch.ones(2)}, when_busy=when_busy)
    reports: list[Report] = []
    checkpoints.on_saved = reports.append
    checkpoints.save(state(1), must=False)
    assert storage.begun.wait(60)
    threading.Timer(0.1, storage.allowed.set).start()

    begun = checkpoints.save(state(2), must=must)

    assert not begun.skipped
    assert begun.waited_seconds > 0
    assert checkpoints.wait()
    assert publication.steps(tmp_path) == [1, 2]
    assert "training waited" in caplog.text
    assert "to write the checkpoint of step 1" in caplog.text
    assert [report.waited_seconds > 0 for report in reports] == [False, True]


def test_without_memory_for_a_copy_training_waits_until_all_is_read(tmp_path: Path) -> None:
    live = torch.ones(1000)
    checkpoints = checkpointer(tmp_path, {"model.w": live}, memory_budget=0)
    checkpoints.claim()

    checkpoints.save(state())
    live.zero_()  # the next step

    assert checkpoints.wait()
    assert load_model_weights(tmp_path)[1]["w"].sum() == 1000


def test_a_failure_while_it_is_read_in_chunks_lets_training_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpointing, "write_files", full)
    checkpoints = checkpointer(tmp_path, {"model.w": torch.ones(3)}, memory_budget=0)
    checkpoints.save(state())
    assert not checkpoints.wait()
    assert "FAILED, training continues: OSError: [Errno 28] No space left" in caplog.text


def test_weights_alone_hold_the_model_and_are_never_resumed_from(tmp_path: Path) -> None:
    live = {"model.w": torch.ones(2), "optimizer.w.exp_avg": torch.zeros(2)}
    checkpoints = checkpointer(tmp_path, live)
    checkpoints.save(state(5), holds="weights", best=True)
    assert checkpoints.wait()

    folder = publication.weights_folder(tmp_path, 5)
    assert publication.pointed_folder(tmp_path, publication.BEST) == folder
    assert read_contents(folder).table.tensors.keys() == {"model.w"}
    assert publication.candidates(tmp_path) == []
    assert checkpoints.resume(lambda state: None) is None


def test_old_checkpoints_that_cannot_be_removed_are_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: Any) -> None:
        assert [report.step for report in reports] == [1]  # what was saved is said before
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(publication, "prune", refuse)
    checkpoints = checkpointer(tmp_path, {"model.w": torch.ones(3)})
    reports: list[Report] = []
    checkpoints.on_saved = reports.append
    checkpoints.save(state(1))

    assert checkpoints.wait()
    assert publication.steps(tmp_path) == [1]
    assert "could not be removed: [Errno 13] Permission denied" in caplog.text
    assert "FAILED" not in caplog.text

import json
import logging
import os
import pickle
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from jobctl.jobs.core.errors import UserError
from jobctl.trainer.checkpoint import files as files
from jobctl.trainer.checkpoint.checkpointer import CheckpointReader, load_model_weights, read_state
from jobctl.trainer.distributed import SHARDS_ON_CPU
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


def spoil(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    if how == "flipped":
        content[len(content) // 2] ^= 1
    path.write_bytes(content[:-10] if how == "truncated" else content)
    if how == "absent":
        path.unlink()


def test_a_checkpoint_holds_weights_optimiser_and_counters(run: Path) -> None:
    state = read_state(files.folder(run, 4))
    assert (state.step, state.samples, state.tokenizer) == (4, 8, "bytes")
    assert set(state.random) >= {"cpu"}
    names = CheckpointReader(files.folder(run, 4)).read_metadata().state_dict_metadata
    assert {"model.norm.weight", "optimizer.norm.weight.exp_avg", "optimizer.norm.weight.step"} <= set(names)
    assert files.pointed(run, "LATEST") == 6
    assert not list((run / "checkpoints").glob(".*"))


@pytest.mark.parametrize("how", ["flipped", "truncated", "absent"])
@pytest.mark.parametrize("name", ["__0_0.distcp", ".metadata", "state.json", "checksums.json"])
def test_any_damage_is_found(run: Path, name: str, how: str) -> None:
    path = files.folder(run, 6)
    assert files.damage(path) == []
    spoil(path / name, how)
    assert files.damage(path)


def test_a_damaged_checkpoint_is_put_aside_loudly_and_the_one_before_used(
    data: Path, run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = load_model_weights(run)[1]
    spoil(files.folder(run, 6) / "__0_0.distcp", "flipped")
    spoil(files.folder(run, 4) / "__0_0.distcp", "truncated")
    with caplog.at_level(logging.WARNING):
        training = prepare(arguments(data, run, **SAVED))
    assert training.step == 2
    assert "step-6 IS DAMAGED" in caplog.text
    assert "its checksum does not match" in caplog.text
    assert "step-4 IS DAMAGED" in caplog.text
    assert training.train_to_the_end() == 0
    assert all((load_model_weights(run)[1][name] == weight).all() for name, weight in before.items())
    assert (run / "checkpoints/damaged-step-6").is_dir()


def test_all_damaged_is_an_error(data: Path, run: Path) -> None:
    for step in files.steps(run):
        spoil(files.folder(run, step) / "state.json", "absent")
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
    assert json.loads((files.folder(tmp_path, 6) / "state.json").read_text())["step"] == 6
    whole = losses(tmp_path)
    assert (files.folder(tmp_path, 6) / "__1_0.distcp").exists()
    spoil(files.folder(tmp_path, 6) / "__1_0.distcp", "flipped")
    assert on_ranks(2, arguments(data, tmp_path, **flags)) == [0]
    assert records(tmp_path, "start")[-1]["startup_info"]["resumed_from_step"] == 4
    assert losses(tmp_path) == whole


def test_a_checkpoint_of_another_version_is_refused_in_words(data: Path, run: Path) -> None:
    folder = files.folder(run, 6)
    state = json.loads((folder / "state.json").read_text())
    state["train"]["no_longer_known"] = 1
    (folder / "state.json").write_text(json.dumps(state))
    sums = json.loads((folder / "checksums.json").read_text())
    sums |= json.loads(msgspec.json.encode(files.records(folder, ["state.json"])))
    (folder / "checksums.json").write_text(json.dumps(sums))
    with pytest.raises(UserError, match=r"another version of the trainer: .*no_longer_known"):
        train(arguments(data, run, **SAVED))


def test_a_save_that_a_rank_has_left_is_a_failed_one(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    training = prepare(arguments(data, tmp_path, **SAVED))

    def gathered(*_: object, **__: object) -> list[object]:
        raise RuntimeError("connection closed by peer")

    checkpoints = training.run.checkpoints
    with monkeypatch.context() as alone:
        alone.setattr(type(checkpoints.world), "gathered", gathered)
        training.save(best=False)
        assert not checkpoints.wait()
    assert "checkpoint of step 0 FAILED, training goes on: RuntimeError: connection closed" in caplog.text


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

    def save(best: bool) -> None:
        full_disk(training.step == 4)
        whole_save(best)
        training.run.checkpoints.wait()
        full_disk(False)

    monkeypatch.setattr(training, "save", save)
    with caplog.at_level(logging.WARNING):
        assert training.train_to_the_end() == 0
    assert "checkpoint of step 4 FAILED, training goes on" in caplog.text
    assert files.steps(tmp_path) == [2, 6]
    assert not list((tmp_path / "checkpoints").glob(".*"))
    assert len(losses(tmp_path)) == 6


def test_a_last_save_that_fails_is_a_failure(
    data: Path, tmp_path: Path, full_disk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = prepare(arguments(data, tmp_path, **SAVED | {"checkpoint_interval": 0}))
    whole_wait = training.run.checkpoints.wait
    monkeypatch.setattr(training.run.checkpoints, "wait", lambda: (whole_wait(), full_disk(False))[0])
    whole_write = training.run.checkpoints._write
    monkeypatch.setattr(training.run.checkpoints, "_write", lambda *a: (full_disk(True), whole_write(*a)))
    with pytest.raises(RuntimeError, match="last checkpoint could not be written"):
        training.train_to_the_end()


def test_retention_keeps_the_last_every_nth_latest_and_best(tmp_path: Path) -> None:
    for step in range(10, 110, 10):
        files.temporary_folder(tmp_path, step).mkdir(parents=True)
        files.publish(tmp_path, step, {}, best=step == 30)
    assert files.prune(tmp_path, keep_last=2, keep_every=50) == [10, 20, 40, 60, 70, 80]
    assert files.steps(tmp_path) == [30, 50, 90, 100]


def test_latest_is_tried_first_and_then_the_ones_before(tmp_path: Path) -> None:
    for step in (1, 2, 30):
        files.folder(tmp_path, step).mkdir(parents=True)
    assert files.candidates(tmp_path) == [30, 2, 1]
    (tmp_path / "checkpoints/LATEST").write_text("step-2\n")
    assert files.candidates(tmp_path) == [2, 1]
    (tmp_path / "checkpoints/LATEST").write_text("step-999\n")
    assert files.candidates(tmp_path) == [30, 2, 1]


def test_what_a_killed_save_left_is_cleared(data: Path, run: Path) -> None:
    files.temporary_folder(run, 8).mkdir()
    (files.temporary_folder(run, 8) / "__0_0.distcp").write_bytes(b"half")
    prepare(arguments(data, run, **SAVED))
    assert not files.temporary_folder(run, 8).exists()


class Trap:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch trapped",)


def test_a_table_of_contents_runs_no_code(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (files.folder(run, 6) / ".metadata").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(pickle.UnpicklingError, match="may not name"):
        CheckpointReader(files.folder(run, 6)).read_metadata()
    assert not (tmp_path / "trapped").exists()

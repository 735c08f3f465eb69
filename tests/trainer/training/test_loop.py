import json
import math
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest

from jobctl.jobs.core.errors import UserError
from jobctl.jobs.core.layout import metrics_dir, stop_file
from jobctl.trainer.checkpoint import checkpointer, publication
from jobctl.trainer.checkpoint.weights import load_model_weights
from jobctl.trainer.models.attention import FlashAttention
from jobctl.trainer.training.evaluate import Score
from tests.trainer.corpus import SHARDINGS, arguments, write_corpus
from tests.trainer.running import losses, on_ranks, prepare, records, train


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("data") / "data")


def lines(run: Path) -> list[str]:
    """Return the iteration lines of the run's log, as bytes would compare."""
    return [msgspec.json.encode(record).decode() for record in records(run)]


def assert_same_training(run: Path, reference: Path) -> None:
    assert lines(run) == lines(reference)
    ours = load_model_weights(run)[1]
    theirs = load_model_weights(reference)[1]
    assert all((ours[name] == theirs[name]).all() for name in theirs)


def test_the_loss_falls(data: Path, tmp_path: Path) -> None:
    assert train(arguments(data, tmp_path, max_iters=60, batch_size=8)) == 0
    seen = losses(tmp_path)
    assert seen[0] > 5.4
    assert seen[-1] < 4.5


def test_a_trial_writes_no_checkpoint_however_it_ends(data: Path, tmp_path: Path) -> None:
    flags = {"checkpoint_interval": 1, "always_save_checkpoint": True, "eval_interval": 1, "trial": True}
    assert train(arguments(data, tmp_path, **flags)) == 0
    assert len(losses(tmp_path)) == 6
    assert publication.steps(tmp_path) == []

    stop_file(tmp_path).write_text("enough\n")
    assert train(arguments(data, tmp_path, **flags)) == 200
    assert publication.steps(tmp_path) == []


@pytest.fixture(scope="module")
def mixture(data: Path) -> str:
    return f"{data}=3,{write_corpus(data.parent / 'other', seed=1)}=1"


@pytest.mark.parametrize("mixed", [False, True])
def test_stop_and_resume_change_no_bit(data: Path, mixture: str, tmp_path: Path, mixed: bool) -> None:
    flags: dict[str, Any] = {"max_iters": 7, "log_interval": 3, "eval_interval": 4, "dataset": data}
    if mixed:
        flags |= {"dataset": mixture, "document_masking": True, "skip_loss_spikes": 6.0}
    assert train(arguments(None, tmp_path / "whole", **flags)) == 0
    run = tmp_path / "parts"
    run.mkdir()
    stop_file(run).write_text("enough\n")
    for _ in range(6):
        assert train(arguments(None, run, **flags)) == 200  # a step at a time
    stop_file(run).unlink()
    assert train(arguments(None, run, **flags)) == 0
    assert_same_training(run, tmp_path / "whole")
    assert len(records(run)) == 7
    assert [r["iter"] for r in records(run, "eval")] == ([4, 4, 7, 7] if mixed else [4, 7])
    assert records(run, "eval") == records(tmp_path / "whole", "eval")


def test_resume_on_another_number_of_ranks_and_another_sharding(data: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    parts = tmp_path / "parts"
    assert train(arguments(data, whole, gradient_accumulation_steps=4)) == 0
    assert train(arguments(data, parts, gradient_accumulation_steps=4, max_iters=6, checkpoint_interval=2,
                           keep_last_checkpoints=9)) == 0  # fmt: skip
    (parts / "checkpoints/LATEST").write_text("step-2\n")  # a person rolls back
    on_two: dict[str, Any] = {"gradient_accumulation_steps": 2, "checkpoint_interval": 2}
    stop_file(parts).touch()
    for mode in reversed(SHARDINGS.values()):
        assert on_ranks(2, arguments(data, parts, **mode, **on_two)) == [200]
    stop_file(parts).unlink()
    assert on_ranks(2, arguments(data, parts, **on_two)) == [0]
    assert [r["samples"] for r in records(parts)] == [r["samples"] for r in records(whole)]
    assert losses(parts) == pytest.approx(losses(whole), rel=2e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 64, "allow_changes": True}, "hidden_size: 32 -> 64"),
        ({"rope_theta": 5.0}, "rope_theta: 10000.0 -> 5.0"),
        ({"seed": 1}, "seed: 1337 -> 1"),
        ({"block_size": 32}, "block_size: 16 -> 32"),
        (
            {"learning_rate": 2e-3, "beta2": 0.9},
            r"learning_rate: 0\.01 -> 0\.002\n  beta2: 0\.95 -> 0\.9\n.*allow",
        ),
        ({"batch_size": 4}, "global batch .*: 2 -> 4"),
        ({"lr_decay_iters": 0}, "end of the learning rate's decay: 60 -> 4"),
        ({"beta2": 0.9, "allow_changes": "learning_rate"}, "beta2"),
        ({"init_from": "scratch"}, "has checkpoints up to step 2"),
    ],
)
def test_what_cannot_be_resumed_says_why(
    data: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    assert train(arguments(data, tmp_path, max_iters=2)) == 0
    with pytest.raises(UserError, match=message):
        train(arguments(data, tmp_path, max_iters=4, **changes))


def test_other_data_cannot_be_resumed(data: Path, tmp_path: Path) -> None:
    assert train(arguments(data, tmp_path / "run", max_iters=2)) == 0
    other = write_corpus(tmp_path / "other", seed=9)
    with pytest.raises(UserError, match="fingerprint"):
        train(arguments(other, tmp_path / "run", max_iters=4))


def test_document_masking_is_checked_at_the_start_and_changes_the_loss(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for masking in (False, True):
        assert train(arguments(data, tmp_path / str(masking), max_iters=3, document_masking=masking)) == 0
    assert losses(tmp_path / "True") != losses(tmp_path / "False")
    blind = FlashAttention(2, lambda *_, **__: None)
    monkeypatch.setattr("jobctl.trainer.models.attention.build_attention", lambda *_: blind)
    with pytest.raises(UserError, match="documents masked"):
        prepare(arguments(data, tmp_path / "refused", document_masking=True, attention_backend="sdpa"))


def test_resume_and_eval_need_a_checkpoint(data: Path, tmp_path: Path) -> None:
    for flag in ({"init_from": "resume"}, {"eval_only": True}):
        with pytest.raises(UserError, match="no checkpoint"):
            train(arguments(data, tmp_path, **flag))


def test_eval_only_needs_nothing_but_the_run(data: Path, tmp_path: Path) -> None:
    assert train(arguments(data, tmp_path, max_iters=3, eval_interval=3)) == 0
    before = records(tmp_path, "eval")
    assert train([f"--run_dir={tmp_path}", "--eval_only=True"]) == 0
    assert records(tmp_path, "eval", log="eval") == before
    assert publication.steps(tmp_path) == [3]


def test_an_evaluation_beside_a_training_leaves_it_alone(data: Path, tmp_path: Path) -> None:
    flags = {"max_iters": 6, "checkpoint_interval": 2, "keep_last_checkpoints": 9}
    training = prepare(arguments(data, tmp_path, **flags))
    training.stop.is_asked = lambda: training.step == 4  # type: ignore[method-assign]
    assert training.train_to_the_end() == 200
    half_written = publication.temporary_folder(publication.folder(tmp_path, 6))
    half_written.mkdir()
    (publication.folder(tmp_path, 4) / "state.json").write_text("{")
    assert train([f"--run_dir={tmp_path}", "--eval_only=True"]) == 0
    assert [r["iter"] for r in records(tmp_path, "eval", log="eval")] == [2]
    assert half_written.is_dir()
    assert publication.steps(tmp_path) == [2, 4]
    assert train(arguments(data, tmp_path, **flags)) == 0
    assert [r["iter"] for r in records(tmp_path)] == [1, 2, 3, 4, 5, 6]
    assert not half_written.exists()


SCORES = {2: 3.0, 4: 2.0, 6: 2.5, 8: 2.5}
"""Losses of a validation, by step: the best one is that of step 4."""


def train_with_scores(data: Path, run: Path, **flags: object) -> None:
    """Train 8 steps, stopped after the fifth and resumed."""
    for last in (5, 8):
        training = prepare(
            arguments(data, run, max_iters=8, eval_interval=2, keep_last_checkpoints=9, **flags)
        )
        training.scores = lambda training=training: [Score("v", SCORES[training.step], None)]  # type: ignore
        training.stop.is_asked = lambda training=training, last=last: training.step == last  # type: ignore
        assert training.train_to_the_end() == (200 if last == 5 else 0)


def test_the_best_validation_keeps_its_weights_where_no_checkpoint_is_due(data: Path, tmp_path: Path) -> None:
    """What was best before a resumption still counts after it."""
    train_with_scores(data, tmp_path)

    assert publication.steps(tmp_path) == [5, 8]
    assert publication.pointed_folder(tmp_path, "BEST") == publication.weights_folder(tmp_path, 4)
    assert publication.pointed(tmp_path, "LATEST") == 8
    assert [path.name for path in (tmp_path / "checkpoints").glob("weights-*")] == ["weights-4"]
    saved = {(r["iter"], r["holds"]) for r in records(tmp_path, "checkpoint")}
    assert saved == {(2, "weights"), (4, "weights"), (5, "everything"), (8, "everything")}


@pytest.mark.parametrize("flags", [{"checkpoint_interval": 4}, {"always_save_checkpoint": True}])
def test_the_best_validation_names_the_checkpoint_of_the_same_step(
    data: Path, tmp_path: Path, flags: dict[str, object]
) -> None:
    train_with_scores(data, tmp_path, **flags)
    assert publication.pointed(tmp_path, "BEST") == 4
    assert not publication.weights_folder(tmp_path, 4).exists()
    assert publication.steps(tmp_path) == ([4, 5, 8] if "checkpoint_interval" in flags else [2, 4, 5, 6, 8])


def test_a_measurement_leaves_no_checkpoint(data: Path, tmp_path: Path) -> None:
    """A hundred steps for MFU once left 22 GB that nobody wanted."""
    train_with_scores(data, tmp_path, save_checkpoints=False, always_save_checkpoint=True)
    assert publication.steps(tmp_path) == []
    assert [path for path in (tmp_path / "checkpoints").rglob("*") if path.is_file()] == []


def test_the_log_says_what_a_checkpoint_cost(data: Path, tmp_path: Path) -> None:
    assert train(arguments(data, tmp_path, max_iters=4, checkpoint_interval=2)) == 0
    entries = records(tmp_path, "checkpoint")
    assert [entry["iter"] for entry in entries] == [2, 4]
    for entry in entries:
        assert entry["checkpoint_pause_ms"] > 0
        assert entry["write_seconds"] > 0
        assert entry["bytes"] > 35_040 * 12
    (start,) = records(tmp_path, "start")
    assert "kB a rank into host memory" in start["startup_info"]["checkpoint_saves"]


def test_a_save_that_storage_is_too_slow_for_is_skipped_and_recorded(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The writer of step 2 waits until step 4 has been skipped; the last step is saved whatever happens."""
    skipped = threading.Event()
    write_files = checkpointer.write_files
    monkeypatch.setattr(
        checkpointer, "write_files", lambda *arguments: (skipped.wait(60), write_files(*arguments))[1]
    )
    training = prepare(
        arguments(data, tmp_path, max_iters=6, checkpoint_interval=2, checkpoint_when_busy="skip")
    )
    after_step = training.after_step
    monkeypatch.setattr(
        training, "after_step", lambda last: (after_step(last), training.step == 4 and skipped.set())[0]
    )

    assert training.train_to_the_end() == 0

    assert publication.steps(tmp_path) == [2, 6]
    (record,) = records(tmp_path, "checkpoint_skipped")
    assert (record["iter"], record["holds"]) == (4, "everything")
    assert "checkpoint of step 4 SKIPPED: storage has taken" in caplog.text


def test_the_json_document_has_the_guides_schema(data: Path, tmp_path: Path) -> None:
    assert train(arguments(data, tmp_path, eval_interval=3, gradient_log_interval=2)) == 0
    document = json.loads(next(metrics_dir(tmp_path).glob("run_*.json")).read_text())
    assert set(document) == {
        "run_name", "config", "startup_info", "training_iterations", "eval_steps", "checkpoints", "summary"
    }  # fmt: skip
    assert document["config"]["hidden_size"] == 32
    last = document["training_iterations"][-1]
    assert {"iter", "loss", "tokens_per_sec", "dt_ms", "memory_allocated_gb", "lr", "grad_norm"} <= set(last)
    assert last["iter"] == len(document["training_iterations"]) == 6
    assert "grad_norm_by_layer" in last
    assert [step["iter"] for step in document["eval_steps"]] == [3, 6]
    assert [entry["iter"] for entry in document["checkpoints"]][-1] == 6
    assert document["summary"]["status"] == "finished"
    assert document["summary"]["first_loss"] == document["training_iterations"][0]["loss"]


def test_a_bad_step_is_skipped_and_training_goes_on(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = prepare(arguments(data, tmp_path, max_iters=5))
    break_steps(training, monkeypatch, {3})
    assert training.train_to_the_end() == 0
    assert [r["skipped"] for r in records(tmp_path)] == [False, False, True, False, False]
    assert records(tmp_path)[2]["loss"] == "nan"
    assert all(math.isfinite(float(w.sum())) for w in load_model_weights(tmp_path)[1].values())


def test_a_run_of_bad_steps_ends_with_their_samples(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = prepare(arguments(data, tmp_path, max_iters=20, max_bad_steps=3))
    break_steps(training, monkeypatch, {3, 4, 5})
    with pytest.raises(Exception, match="3 steps in a row, up to step 5: samples 4 to 9"):
        training.train_to_the_end()


def break_steps(training: Any, monkeypatch: pytest.MonkeyPatch, steps: set[int]) -> None:
    """Make the loss of these steps NaN."""
    stepper = training.run.stepper
    whole = stepper.loss
    monkeypatch.setattr(
        stepper, "loss", lambda tokens: whole(tokens) * (math.nan if training.step + 1 in steps else 1.0)
    )


def test_a_profile_is_written(data: Path, tmp_path: Path) -> None:
    assert train(arguments(data, tmp_path, max_iters=8, profile=True)) == 0
    trace = json.loads((metrics_dir(tmp_path) / "trace-rank-00000.json").read_text())
    assert trace["traceEvents"]


def test_a_profile_of_too_few_steps_says_so(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert train(arguments(data, tmp_path, max_iters=2, profile=True)) == 0
    assert "no trace: it needs steps 4 to 6, and this attempt ended before" in caplog.text


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_lower_precision_trains_the_same_to_rounding(data: Path, tmp_path: Path, dtype: str) -> None:
    for kind in ("float32", dtype):
        assert train(arguments(data, tmp_path / kind, dtype=kind)) == 0
    assert losses(tmp_path / dtype) == pytest.approx(losses(tmp_path / "float32"), rel=5e-3)
    assert not any(r["skipped"] for r in records(tmp_path / dtype))


def test_a_resumed_run_keeps_the_order_of_samples_that_it_began_with(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as earlier:
        earlier.setattr("jobctl.trainer.training.assembly.ORDER", 1)
        assert train(arguments(data, tmp_path / "run", max_iters=2)) == 0
    resumed = prepare(arguments(data, tmp_path / "run", max_iters=4))
    assert resumed.step == 2
    assert resumed.run.data.order == 1
    assert prepare(arguments(data, tmp_path / "new", max_iters=4)).run.data.order == 2

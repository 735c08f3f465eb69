"""What people read: the start-up block, the progress line, the rank's log, the optional trackers."""

import logging
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from jobctl.jobs.catalog.schema import TrainConfig
from jobctl.jobs.core.layout import metrics_dir, rank_log
from jobctl.trainer.reporting.live_line import line
from jobctl.trainer.reporting.ranklog import next_attempt
from jobctl.trainer.reporting.startup import Peak, block
from jobctl.trainer.reporting.timing import StepTimer
from jobctl.trainer.reporting.trackers import Series, TensorBoard, Trackers, logged_in_to_wandb
from tests.trainer.corpus import arguments, write_corpus
from tests.trainer.running import PROJECT, Screen, prepare, records, train

FACTS: dict[str, Any] = {
    "model": "m", "parameters": 1_830_395_904, "flops_per_token": 10, "flops_per_token_causal": 5, "device": "H200",
    "world_size": 8, "torch": "2.8.0", "attention_backend": "cudnn",
    "attention_passed_over": "", "repeatable": True, "unrepeatable": "",
    "kernels": "plain: as asked", "fused": False, "float8": False,
    "cuda_graphs": False, "without_cuda_graphs": "they need the fused kernels",
    "sharding": "fsdp",
    "weight_bytes_per_rank": 915_197_952, "optimizer_bytes_per_rank": 1_830_395_904, "global_batch_size": 512,
    "tokens_per_iter": 1_048_576, "dataset": ["/d"], "fingerprint": "abcdef0123456789", "resumed_from_step": 500,
    "checkpoint_saves": "a save goes in chunks",
    "plan": "2,097,152,000 tokens: 0.3 epochs of d",
}  # fmt: skip


def test_the_block_says_what_was_chosen() -> None:
    peak = Peak(torch.device("cpu"), "bfloat16")
    train_config = TrainConfig(batch_size=16, gradient_accumulation_steps=4, use_cuda_graphs=True)
    text = block(FACTS, train_config, peak, ["val-1"])
    for fact in (
        "1,830,395,904 parameters", "cudnn (asked for: auto)", "bfloat16 matrix products",
        "without: they need the fused kernels", "yes, bit for bit (asked for: auto)",
        "fsdp: weights and optimiser", "optimiser 1.83 GB", "16 a rank × 4 micro-steps × 8 ranks = 512 sequences",
        "1,048,576 tokens a step", "500 to 2000", "MFU is n/a", "val-1", "plan  2,097,152,000 tokens",
        "checkpoints  a save goes in chunks",
    ):  # fmt: skip
        assert fact in text
    assert max(map(len, text.splitlines())) < 140
    other = FACTS | {"repeatable": False, "unrepeatable": "sdpa would take longer"}
    assert "repeatable  no: sdpa would take longer" in block(other, train_config, peak, [])
    chosen = FACTS | {"attention_backend": "flash_attn_2", "attention_passed_over": "cudnn: no plan"}
    assert "flash_attn_2 (asked for: auto; passed over: cudnn: no plan)" in block(
        chosen, train_config, peak, []
    )


def test_mfu_is_a_share_of_the_dense_peak_of_all_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobctl.trainer.reporting.startup.device_name", lambda device: "NVIDIA H200")
    peak = Peak(torch.device("cuda"), "bfloat16")
    assert str(peak) == "989.0 TFLOP/s dense (h200)"
    assert peak.mfu(8 * 56_307, 10_322_706_432, 8) == pytest.approx(0.5877, abs=1e-4)
    assert Peak(torch.device("cpu"), "float32").mfu(1.0, 1, 1) is None


def test_the_progress_line_names_the_peak() -> None:
    record = {"loss": 2.5, "lr": 3e-4, "grad_norm": 0.7}
    timing = {"dt_ms": 500.0, "tokens_per_sec": 123456.0}
    assert "MFU n/a" in line(10, 100, record, timing, "")
    text = line(10, 100, record, timing | {"mfu": 0.587}, "989.0 TFLOP/s dense (h200)")
    assert "step 10/100 (10%)" in text
    assert "58.7% of 989.0 TFLOP/s" in text
    assert text.endswith("ETA 00:00:45")


def test_the_parts_of_a_step_are_measured() -> None:
    timer = StepTimer(torch.device("cpu"))
    for _ in range(2):
        timer.begin_step()
        with timer.waiting_for_data():
            pass
        timer.mark("compute")
        timer.mark("optimizer")
    facts = timer.per_step_ms()
    assert set(facts) == {"dt_ms", "data_wait_ms", "compute_ms", "optimizer_ms"}
    assert 0 <= facts["compute_ms"] <= facts["dt_ms"]


def test_everything_a_rank_says_is_in_its_log_and_its_news_on_the_console(tmp_path: Path) -> None:
    code = f"""
import logging, os, sys, warnings
from pathlib import Path
from jobctl.trainer.reporting.ranklog import redirect
console = redirect(Path({str(tmp_path)!r}), 2, int(sys.argv[1]))
print("from python"); os.write(2, b"from C\\n"); logging.getLogger("x").info("news"); console.progress("progress")
"""
    shown = [
        subprocess.run(
            [sys.executable, "-c", code, rank], cwd=PROJECT, capture_output=True, text=True, check=True
        )
        for rank in ("0", "1")
    ]
    assert shown[0].stdout.split("\n")[:2] == ["news", "progress"]
    assert "news" not in shown[1].stdout
    for rank in (0, 1):
        text = rank_log(tmp_path, 2, rank).read_text()
        assert all(words in text for words in ("from python", "from C", "news"))
    assert next_attempt(tmp_path) == 3
    assert next_attempt(tmp_path / "new") == 1


class Recording:
    """A tracker that works."""

    seen: list[Any] = []  # noqa: RUF012

    def __init__(self, series: Series) -> None:
        self.seen.append(series.name)

    def log(self, step: int, values: dict[str, float]) -> None:
        self.seen.append((step, values))

    def close(self) -> None:
        self.seen.append("closed")


class Broken(Recording):
    def log(self, step: int, values: dict[str, float]) -> None:
        raise SystemExit("quota")


def never_connects(series: Series) -> Recording:
    time.sleep(60)
    return Recording(series)


def test_no_tracker_can_stop_a_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trackers, "CLOSING_SECONDS", 0.2)
    trackers = Trackers(tmp_path, {"good": Recording, "broken": Broken, "stuck": never_connects})
    with caplog.at_level(logging.WARNING):
        trackers.begin("run", {})
        for step in range(2000):
            trackers.log(step, {"loss": 1.0})
            time.sleep(0 if step else 0.1)
        trackers.close()
    assert Recording.seen[0] == "run"
    assert (0, {"loss": 1.0}) in Recording.seen
    assert "broken is off for the rest of this attempt: SystemExit: quota" in caplog.text


FAULTS = {
    "at import": "raise ImportError('broken wheel')",
    "at the start": "def init(**_): raise SystemExit('no account')\nstart_run = set_tracking_uri = init",
    "in the middle": """
class Run:
    def log(self, values, step):
        if step > 2: raise OSError("connection lost")
run = Run()
def init(**_): return run
start_run = init
def set_tracking_uri(uri): pass
def log_params(config): pass
def log_metrics(values, step): run.log(values, step)
""",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_package_that_breaks_costs_a_warning_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    for package in ("wandb", "mlflow"):
        (tmp_path / f"{package}.py").write_text(FAULTS[fault])
        monkeypatch.delitem(sys.modules, package, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    assert train(arguments(write_corpus(tmp_path / "data"), tmp_path / "run")) == 0
    warnings = [
        r.getMessage()
        for r in caplog.records
        if r.name == "jobctl.trainer.reporting.trackers" and r.levelno > 20
    ]
    assert len(warnings) == 2
    for service in ("Weights & Biases", "MLflow"):
        assert any(text.startswith(f"{service} is off for the rest of this attempt") for text in warnings)


def test_tensorboard_gets_what_the_run_log_gets(tmp_path: Path) -> None:
    assert train(arguments(write_corpus(tmp_path / "data"), tmp_path / "run", eval_interval=3)) == 0
    events = EventAccumulator(str(metrics_dir(tmp_path / "run") / "tensorboard/run"))
    events.Reload()
    shown = {event.step: event.value for event in events.Scalars("loss")}
    logged = {r["iter"]: r["loss"] for r in records(tmp_path / "run")}
    assert shown == {step: pytest.approx(logged[step]) for step in (2, 3, 4, 6)}
    assert {"lr", "grad_norm", "tokens_per_sec", "dt_ms", "memory_peak_gb"} <= set(events.Tags()["scalars"])
    (validation,) = [name for name in events.Tags()["scalars"] if name.startswith("val_loss/")]
    assert [event.step for event in events.Scalars(validation)] == [3, 6]


def scalars(folder: Path, name: str) -> list[tuple[int, float]]:
    events = EventAccumulator(str(folder))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


def test_tensorboard_hides_the_steps_that_were_rolled_back(tmp_path: Path) -> None:
    for resumed, steps in ((None, range(1, 11)), (6, range(7, 13))):
        board = TensorBoard(Series(tmp_path, "run", {}, resumed))
        for step in steps:
            board.log(step, {"loss": float(step)})
        board.close()
        time.sleep(1.1)  # the files are told apart, and put in order, by the second in their names
    shown = scalars(tmp_path / "tensorboard/run", "loss")
    assert [step for step, _ in shown] == list(range(1, 13))


def test_an_evaluation_writes_a_series_of_its_own(tmp_path: Path) -> None:
    data = write_corpus(tmp_path / "data")
    run = tmp_path / "run"
    assert train(arguments(data, run, eval_interval=3)) == 0
    assert train(arguments(data, run, eval_only=True)) == 0
    boards = sorted(path.name for path in (metrics_dir(run) / "tensorboard").iterdir())
    assert boards == ["run", "run-eval"]


def test_a_service_keeps_its_identity_over_attempts_and_a_new_run_has_another(tmp_path: Path) -> None:
    first = Series(tmp_path, "run", {})
    assert first.identity("wandb") is None
    first.remember("wandb", "abc")
    first.remember("mlflow", "7")
    assert Series(tmp_path, "run", {}, 5).identity("wandb") == "abc"
    assert Series(tmp_path, "run-eval", {}).identity("wandb") is None
    assert Series(tmp_path / "again", "run", {}).identity("wandb") is None


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"wandb run": 5}', b'{"wandb run": "\xff"}'])
def test_damaged_identities_begin_a_new_series(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "trackers.json").write_bytes(data)
    assert Series(tmp_path, "run", {}).identity("wandb") is None


def test_a_netrc_that_is_no_text_is_no_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".netrc").write_bytes(b"machine \xff login a password b\n")
    assert not logged_in_to_wandb()


def test_starting_a_tracker_does_not_slow_the_command_down() -> None:
    """Its package is imported by the thread that feeds it."""
    code = "import sys, jobctl.trainer.training.loop; sys.exit('tensorboard' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=False).returncode == 0


def test_the_screen_of_a_whole_run(tmp_path: Path) -> None:
    training = prepare(arguments(write_corpus(tmp_path / "data"), tmp_path / "run", eval_interval=3))
    assert training.train_to_the_end() == 0
    screen = training.console
    assert isinstance(screen, Screen)
    assert [text.split()[1] for text in screen.lines if text.startswith("step") and "tokens/s" in text] == [
        "2/6", "3/6", "4/6", "6/6"
    ]  # fmt: skip
    assert any("perplexity" in text and "a byte" in text for text in screen.lines)
    assert re.match(r"finished at step 6 of 6, loss 5\.\d{4} -> \d\.\d{4}; ", screen.lines[-1])
    assert msgspec.to_builtins(training.train)["block_size"] == 16
    assert train(arguments(tmp_path / "data", tmp_path / "run", eval_interval=3)) == 0

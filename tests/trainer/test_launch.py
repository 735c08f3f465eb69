import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from jobctl.jobs.core.layout import rank_log, stop_file
from jobctl.trainer import launch


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_options_are_divided_at_the_first_dashes() -> None:
    assert launch.split(["--nnodes=2", "--", "--model=m", "--", "x"]) == (
        ["--nnodes=2"],
        ["--model=m", "--", "x"],
    )
    assert launch.split(["--model=m"]) == (["--standalone"], ["--model=m"])


@pytest.mark.parametrize(
    ("codes", "result"),
    [
        ([200, 200], 200),
        ([2, 2], 2),
        ([1, 2], 2),
        ([1, -signal.SIGKILL], 137),
        ([-signal.SIGTERM, 1], 1),
        ([200, -signal.SIGTERM], 200),
        ([200, 1], 200),
        ([1, 201, -signal.SIGTERM], 201),
        ([-signal.SIGSEGV, -signal.SIGKILL], 139),
        ([-signal.SIGTERM, -signal.SIGTERM], 143),
    ],
)
def test_the_cause_decides_the_exit_code(codes: list[int], result: int, tmp_path: Path) -> None:
    failures = {}
    for rank, code in enumerate(codes):
        failures[rank] = ProcessFailure(rank, 100 + rank, code, str(tmp_path / "no-error-file"))
        failures[rank].timestamp = rank
    error = ChildFailedError("trainer", failures)
    assert launch.exit_code(error) == result


def test_other_ends_of_torchrun(capsys: pytest.CaptureFixture[str]) -> None:
    assert launch.exit_code(None) == 0
    assert launch.exit_code(TimeoutError("rendezvous")) == 1
    assert "TimeoutError: rendezvous" in capsys.readouterr().err


def test_what_the_thread_raises_is_handed_over() -> None:
    def fail() -> None:
        raise KeyError("x")

    assert isinstance(launch.in_thread(fail), KeyError)
    assert launch.in_thread(lambda: None) is None


def test_sigterm_becomes_the_stop_file(tmp_path: Path) -> None:
    stop = launch.StopFile(tmp_path / "run")
    os.kill(os.getpid(), signal.SIGTERM)
    assert stop.path == stop_file(tmp_path / "run")
    os.kill(os.getpid(), signal.SIGTERM)
    assert stop.path.read_text() == "launcher received SIGTERM\n", "whoever cancels a job repeats the signal"
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)  # asked once already, so this one means now


@pytest.mark.parametrize("others", ["", "cancel\n"])
def test_the_launcher_takes_back_only_its_own_stop_file(tmp_path: Path, others: str) -> None:
    stop = launch.StopFile(tmp_path)
    stop.path.write_text(others)
    stop.take_back()
    assert stop.path.exists(), "it has not asked for anything"
    os.kill(os.getpid(), signal.SIGINT)
    stop.take_back()
    assert stop.path.exists() == bool(others)
    stop.take_back()


def test_a_hang_is_said_with_where_to_look_and_who_is_silent(tmp_path: Path) -> None:
    for rank, text in enumerate(("start\nno step for 5 s; every thread's stack:\nThread 0x1", "start\n")):
        rank_log(tmp_path, 2, rank).parent.mkdir(parents=True, exist_ok=True)
        rank_log(tmp_path, 2, rank).write_text(text)
    for attempt in (2, None):
        assert f"{tmp_path}/logs/2/rank-*.log (not in that of rank-00001)" in launch.hang_report(
            tmp_path, attempt
        )
    rank_log(tmp_path, 2, 0).write_text("start\n")
    assert launch.hang_report(tmp_path, None) == ""
    assert launch.hang_report(tmp_path / "nothing", None) == ""


def test_cores_are_divided_among_the_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    launch.set_threads(8)
    assert os.environ["OMP_NUM_THREADS"] == "2"
    launch.set_threads(1)
    assert os.environ["OMP_NUM_THREADS"] == "2"  # what the user has set stays


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--", "--run_dir=/r", "--max_iter=3"], "did you mean 'max_iters'"),
        (["--", "--model=qwen3_smoke"], "--run_dir is missing"),
        (["--nonsense=2", "--", "--run_dir=/r"], "unrecognized arguments"),
        (["--nproc_per_node=many", "--", "--run_dir=/r"], "many"),
    ],
)
def test_wrong_usage_is_said_before_anything_starts(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert launch.main(arguments) == 2
    assert message in capsys.readouterr().err
    assert logging.root.manager.disable == logging.NOTSET, "a refusal must leave this process's log as it was"


@pytest.mark.parametrize(
    ("words", "hardware"),
    [
        ("CUDA error: uncorrectable ECC error encountered", True),
        ("CUDA error: device-side assert triggered", False),
        ("CUDA out of memory", False),
    ],
)
def test_what_the_driver_says_of_a_gpu_is_told_from_what_a_program_did(words: str, hardware: bool) -> None:
    from jobctl.trainer.__main__ import is_hardware

    assert is_hardware(RuntimeError(words)) is hardware

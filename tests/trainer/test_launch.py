import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from jobctl.jobs.core.layout import stop_file
from jobctl.trainer import launch
from jobctl.trainer.lifecycle.rank_notes import Note
from jobctl.trainer.lifecycle.restarts import MAX_RESTARTS
from tests.trainer.test_restarting import died, parsed


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


PRINTS_WITHOUT_END = """
import os, signal, sys
from jobctl.trainer import launch

def print_without_end():
    os.kill(os.getpid(), signal.SIGTERM)
    while True:
        sys.stderr.buffer.write(bytes(1_000_000))

signal.signal(signal.SIGTERM, launch.leave)
launch.end_with(lambda: launch.in_thread(print_without_end))
"""
"""A launcher that is ended while torchrun's thread prints."""


def test_a_signal_decides_the_exit_code_also_while_torchrun_prints() -> None:
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", PRINTS_WITHOUT_END], stderr=subprocess.PIPE)
        assert done.returncode == 143, done.stderr.strip(b"\0")


@pytest.mark.parametrize("ending", [lambda: 200, lambda: sys.exit(200)])
def test_the_process_ends_with_the_code_of_its_action(ending: Callable[[], int]) -> None:
    child = os.fork()
    if not child:
        launch.end_with(ending)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 200


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
    ("words", "most"),
    [
        ([], MAX_RESTARTS),
        (["--nnodes=2"], MAX_RESTARTS),
        (["--max-restarts=0"], 9),
        (["--max_restarts", "9"], 9),
        (["--monitor-interval=5"], MAX_RESTARTS),
    ],
)
def test_torchruns_option_bounds_the_restarts_only_if_it_is_given(words: list[str], most: int) -> None:
    assert launch.most_restarts(words, parsed()) == most


def test_the_rank_that_caused_the_end_is_said_with_what_it_was_doing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    error = died(rank0=-signal.SIGTERM, rank3=-signal.SIGSEGV, rank1=1)
    code = launch.exit_code(error, {3: Note(step=17, first_sample=128, samples=8)})
    assert code == 128 + signal.SIGSEGV
    assert capsys.readouterr().err == (
        "error: rank 3 (pid 103) ended with SIGSEGV in step 17, samples 128 to 135\n"
    )


def test_of_two_equal_codes_the_rank_that_died_first_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert launch.exit_code(died(rank5=7, rank0=7)) == 7
    assert capsys.readouterr().err == "error: rank 5 (pid 105) ended with exit code 7\n"


@pytest.mark.parametrize(("code", "result"), [(2, 2), (0, 0), (None, 0), ("words", 2)])
def test_torchruns_own_parser_ends_as_wrong_usage_or_as_its_help(code: object, result: int) -> None:
    assert launch.usage_error(SystemExit(code)) == result


class Ended(BaseException):
    """Stands for the end of this process."""


@pytest.mark.parametrize(
    ("ending", "code"),
    [(KeyboardInterrupt(), 130), (SystemExit(75), 75), (SystemExit("words"), 1), (None, 7)],
)
def test_the_process_ends_with_the_code_of_whatever_ended_it(
    monkeypatch: pytest.MonkeyPatch, ending: BaseException | None, code: int
) -> None:
    def action() -> int:
        if ending:
            raise ending
        return 7

    def leave(number: int) -> None:
        raise Ended(number)

    monkeypatch.setattr(os, "_exit", leave)
    with pytest.raises(Ended) as ended:
        launch.end_with(action)
    assert ended.value.args == (code,)


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

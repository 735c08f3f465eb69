"""The trainer as users and schedulers meet it: a command, its exit code, its files. Real processes over gloo."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from jobctl.jobs.core.errors import UserError
from jobctl.jobs.core.layout import metrics_dir, rank_log, stop_file
from jobctl.jobs.core.run_times import read_goodput
from jobctl.trainer.__main__ import is_hardware, main, refuse
from jobctl.trainer.checkpoint import publication
from jobctl.trainer.distributed import SHARDS_ON_CPU
from jobctl.trainer.rendezvous import address_towards
from jobctl.trainer.training.replay import WrongBits
from tests.trainer.corpus import arguments, write_corpus
from tests.trainer.running import PATIENCE, PROJECT, RECORDS_GLOO, Ranks, command, records

TWO = ["--standalone", "--nproc_per_node=2", "--"]
ENDLESS = {"max_iters": 1_000_000, "log_interval": 5}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("data") / "data")


def wait_until(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)


def logged(run: Path, steps: int = 5) -> Callable[[], bool]:
    def reached() -> bool:
        return any(len(path.read_text().splitlines()) > steps for path in metrics_dir(run).glob("*.jsonl"))

    return reached


def free_port(address: str) -> int:
    """Return a port of this machine that nobody listens at."""
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    output, _ = process.communicate(timeout=PATIENCE)
    return process.returncode, output


def ranks_of(launcher: subprocess.Popen[str]) -> list[int]:
    """Process ids of the ranks, by local rank."""
    threads = Path(f"/proc/{launcher.pid}/task").glob("*/children")
    children = sorted(int(pid) for thread in threads for pid in thread.read_text().split())

    def is_rank(pid: int) -> bool:
        return "jobctl.trainer" in Path(f"/proc/{pid}/cmdline").read_text().split("\0")

    return [pid for pid in children if is_rank(pid)]


def wait_until_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + PATIENCE
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_finished_run_ends_with_0_and_leaves_its_files(data: Path, tmp_path: Path) -> None:
    code, output = ended(
        command("jobctl.trainer.launch", *TWO, *arguments(data, tmp_path, attempt=3, eval_interval=3))
    )
    assert code == 0, output
    assert "step 6/6" in output
    assert "MFU n/a" in output
    assert "Traceback" not in output
    assert "sharding  ddp" in rank_log(tmp_path, 3, 1).read_text()
    assert publication.steps(tmp_path)[-1] == 6
    assert list(metrics_dir(tmp_path).glob("run_*.json"))
    scored = records(tmp_path, "eval")[-1]
    code, output = ended(command("jobctl.trainer.launch", "--", f"--run_dir={tmp_path}", "--eval_only=True"))
    assert code == 0, output
    again = records(tmp_path, "eval", log="eval")[-1]
    assert (again["set"], again["iter"]) == (scored["set"], 6)
    assert again["val_loss"] == pytest.approx(scored["val_loss"], rel=1e-6)  # another number of ranks
    assert publication.steps(tmp_path) == [6]


def test_torchrun_in_the_guides_style(data: Path, tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "jobctl.trainer",
         "--model", "qwen3_smoke", "--max_iters=2", "--compile=False", "--dtype=float32",
         f"--use_zero1={SHARDS_ON_CPU}", "--use_fsdp=False", "--block_size=16", "--batch_size=1",
         f"--dataset={data}", f"--run_dir={tmp_path}"],
        cwd=PROJECT, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert ("zero1" if SHARDS_ON_CPU else "ddp") in result.stdout
    assert [r["iter"] for r in records(tmp_path)] == [1, 2]
    assert rank_log(tmp_path, 1, 1).exists()


def test_the_stop_file_ends_with_200_after_the_same_step_everywhere(data: Path, tmp_path: Path) -> None:
    ranks = Ranks(2, arguments(data, tmp_path, use_fsdp=SHARDS_ON_CPU, **ENDLESS))
    while not logged(tmp_path)():
        time.sleep(0.01)
    stop_file(tmp_path).write_text("time limit\n")
    assert ranks.codes() == [200]
    assert records(tmp_path, "summary")[-1]["reason"].endswith("STOP: time limit")
    assert publication.steps(tmp_path)[-1] == records(tmp_path)[-1]["iter"]


@pytest.mark.parametrize("target", ["launcher", "rank"])
def test_sigterm_ends_with_200_also_with_worker_processes(data: Path, tmp_path: Path, target: str) -> None:
    flags = ENDLESS | {"use_dataloader": True, "dataloader_num_workers": 1}
    process = command("jobctl.trainer.launch", *TWO, *arguments(data, tmp_path, **flags))
    wait_until(logged(tmp_path), process)
    if target == "launcher":
        process.terminate()
    else:
        os.killpg(ranks_of(process)[1], signal.SIGTERM)  # its worker processes get it as well
    code, output = ended(process)
    assert code == 200, output
    assert "SIGTERM" in output
    assert "Traceback" not in output
    assert not stop_file(tmp_path).exists()  # so the same command resumes
    assert publication.steps(tmp_path)[-1] == records(tmp_path)[-1]["iter"]


def test_a_second_attempt_beside_a_live_one_is_refused_in_words(data: Path, tmp_path: Path) -> None:
    first = command("jobctl.trainer.launch", *TWO, *arguments(data, tmp_path, **ENDLESS))
    wait_until(logged(tmp_path), first)
    before = {path: path.read_bytes() for path in metrics_dir(tmp_path).glob("run_*.jsonl")}
    code, output = ended(command("jobctl.trainer.launch", *TWO, *arguments(data, tmp_path, **ENDLESS)))
    assert code == 75
    assert f"{tmp_path} is in use: attempt 1, process" in output
    assert "Traceback" not in output
    assert before.keys() == set(metrics_dir(tmp_path).glob("run_*.jsonl"))
    first.send_signal(signal.SIGTERM)
    code, output = ended(first)
    assert code == 200, output
    code, output = ended(command("jobctl.trainer.launch", *TWO, *arguments(data, tmp_path, max_iters=1)))
    assert code == 0, output
    assert "is it alive" not in output


def test_an_evaluation_that_is_ended_leaves_the_stop_file_alone(tmp_path: Path) -> None:
    data = write_corpus(tmp_path / "large", tokens=1_000_000)  # scored in seconds
    assert ended(command("jobctl.trainer.launch", "--", *arguments(data, tmp_path, max_iters=1)))[0] == 0
    stop_file(tmp_path).write_text("cancel\n")
    launcher = command(
        "jobctl.trainer.launch", *TWO, f"--run_dir={tmp_path}", "--eval_only=True", "--eval_iters=700"
    )
    wait_until(lambda: rank_log(tmp_path, 2, 1).exists(), launcher)
    ranks = ranks_of(launcher)
    assert ranks
    launcher.send_signal(signal.SIGTERM)
    assert ended(launcher)[0] == 143
    assert stop_file(tmp_path).read_text() == "cancel\n"
    wait_until_gone(ranks)


def test_a_killed_rank_starts_again_in_place_from_the_last_checkpoint(data: Path, tmp_path: Path) -> None:
    settings = {**ENDLESS, "checkpoint_interval": 5}
    process = command("jobctl.trainer.launch", *TWO, *arguments(data, tmp_path, attempt=1, **settings))
    wait_until(lambda: publication.steps(tmp_path), process)
    first = ranks_of(process)
    os.kill(first[1], signal.SIGKILL)
    wait_until(lambda: len(list(metrics_dir(tmp_path).glob("*.jsonl"))) == 2, process)
    wait_until(lambda: not set(first) & set(ranks_of(process)), process)
    stop_file(tmp_path).touch()

    code, output = ended(process)
    assert code == 200, output
    assert re.search(r"rank 1 \(pid \d+\) ended with SIGKILL in step \d+, samples \d+ to \d+", output), output
    assert "the ranks start again in place, from the last checkpoint (1 of 3)" in output
    assert "resumed from a checkpoint" in output
    steps = [record["iter"] for record in records(tmp_path)]
    assert steps == list(range(1, len(steps) + 1))

    goodput = read_goodput(tmp_path)
    assert goodput
    assert (goodput.attempts, goodput.starts) == (1, 2)
    assert goodput.seconds["restart"] > 0
    assert sum(goodput.seconds.values()) == pytest.approx(goodput.wall_seconds, rel=0.01)
    assert re.search(r"^goodput \d", output, re.MULTILINE), output
    assert "restart in place" in output


def test_a_rank_that_is_killed_while_ranks_start_starts_again(data: Path, tmp_path: Path) -> None:
    """torchrun then ends the other rank by SIGTERM, which is no wish of anybody's."""
    process = command("jobctl.trainer.launch", *TWO, *arguments(data, tmp_path, attempt=1, **ENDLESS))
    wait_until(lambda: len(ranks_of(process)) == 2, process)
    first = ranks_of(process)
    os.kill(first[1], signal.SIGKILL)
    wait_until(logged(tmp_path), process)
    assert not set(first) & set(ranks_of(process))
    stop_file(tmp_path).touch()

    code, output = ended(process)
    assert code == 200, output
    assert "the ranks start again in place, from the last checkpoint (1 of 3)" in output


def test_ranks_of_another_node_do_not_wait_for_a_rank_that_died(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rank 0 stands for one that waits in NCCL: nothing but the word of the other node's launcher reaches it."""
    address = socket.gethostbyname(address_towards("192.0.2.1", 9))
    endpoint = f"{address}:{free_port(address)}"
    node = [
        "--nnodes=2",
        "--nproc_per_node=1",
        "--rdzv_backend=c10d",
        f"--rdzv_endpoint={endpoint}",
        "--rdzv_id=two",
    ]
    words = [
        "--",
        *arguments(data, tmp_path, attempt=1, hang_timeout=300, max_iters=12, checkpoint_interval=2),
    ]

    monkeypatch.setenv("APART", "1")
    launchers = []
    for rank, fault in enumerate(["hang_once", "killed_once"]):
        monkeypatch.setenv("FAULTY_RANK", str(rank))
        monkeypatch.setenv("FAULT", fault)
        launchers.append(command("bench.faulty_rank", *node, f"--rdzv_conf=is_host={1 - rank}", *words))

    (code, output), (other_code, other_output) = map(ended, launchers)
    assert (code, other_code) == (0, 0), output + other_output
    for text in (output, other_output):
        assert "the ranks start again in place, from the last checkpoint (1 of 3)" in text
        assert "training hangs" not in text

    text = "".join(rank_log(tmp_path, 1, rank).read_text() for rank in (0, 1))
    assert re.search(r"rank 1 \(.*\) has died; this rank ends as well", text)


def test_a_killed_rank_ends_with_128_and_the_signal_where_no_restart_is_allowed(
    data: Path, tmp_path: Path
) -> None:
    process = command(
        "jobctl.trainer.launch", "--max_restarts=0", *TWO, *arguments(data, tmp_path, **ENDLESS)
    )
    wait_until(logged(tmp_path), process)
    os.kill(ranks_of(process)[1], signal.SIGKILL)
    code, output = ended(process)
    assert code == 128 + signal.SIGKILL, output
    assert "SIGKILL" in output
    assert "no restart in place: the limit of 0 restarts is reached" in output


def test_ranks_do_not_outlive_their_launcher(data: Path, tmp_path: Path) -> None:
    process = command("jobctl.trainer.launch", *arguments(data, tmp_path, **ENDLESS))
    wait_until(logged(tmp_path), process)
    ranks = ranks_of(process)
    assert ranks
    process.kill()
    process.wait()
    wait_until_gone(ranks)


def test_data_that_does_not_fit_ends_with_2_and_no_traceback(data: Path, tmp_path: Path) -> None:
    code, output = ended(
        command("jobctl.trainer.launch", *TWO, *arguments(data, tmp_path), "--vocab_size=100")
    )
    assert code == 2, output
    assert output.count("256 ids (tokenizer bytes), the model only 100") == 1, output
    assert "Traceback" not in output
    assert not publication.steps(tmp_path)


def test_a_run_directory_that_cannot_be_made_is_said_without_a_traceback(data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    code, output = ended(command("jobctl.trainer", *arguments(data, tmp_path / "file" / "run")))
    assert code == 1
    assert "rank 0 cannot write into --run_dir: [Errno 20] Not a directory" in output
    assert "Traceback" not in output


def test_a_hanging_rank_is_reported_with_every_stack_after_hang_timeout(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAULT", "hang")
    code, output = ended(command(
        "bench.faulty_rank", *TWO, *arguments(data, tmp_path, attempt=1, hang_timeout=5, **ENDLESS),
    ))  # fmt: skip
    assert code not in (0, 2, 200), output
    assert "ERROR: training hangs: it made no step for" in output
    if RECORDS_GLOO:
        assert "rank 1 did not arrive at collective" in output
    assert "bench/faulty_rank.py:" in output
    assert f"the place of each rank is in {tmp_path}/logs/1/hang" in output
    for rank in (0, 1):
        text = rank_log(tmp_path, 1, rank).read_text()
        assert "every thread's stack:" in text
        assert "loop.py" in text
    assert "faulty_rank.py" in rank_log(tmp_path, 1, 1).read_text()


def test_a_run_that_writes_its_last_checkpoint_slowly_is_not_ended(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAULT", "slow_storage")
    monkeypatch.setenv("ALONE", "1")
    code, output = ended(command(
        "bench.faulty_rank", *arguments(data, tmp_path, hang_timeout=3, max_iters=2),
    ))  # fmt: skip
    assert code == 0, output
    assert "waiting for storage: the last checkpoint, for " in output
    assert publication.steps(tmp_path) == [2]


def test_a_hang_without_the_launcher_is_said_on_the_console(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAULT", "hang")
    monkeypatch.setenv("ALONE", "1")
    code, output = ended(command(
        "bench.faulty_rank", *arguments(data, tmp_path, attempt=1, hang_timeout=3, **ENDLESS),
    ))  # fmt: skip
    assert code == 1, output
    assert "training hangs: it made no step for" in output
    assert "bench/faulty_rank.py:" in output


@pytest.mark.parametrize(
    ("error", "hardware"),
    [
        (RuntimeError("CUDA error: uncorrectable ECC error encountered"), True),
        (RuntimeError("CUDA error: Uncorrectable NVLink error detected during the execution"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (WrongBits("the gradients differ"), True),
        (MemoryError("CUDA out of memory"), False),
    ],
    ids=lambda value: str(value)[:40],
)
def test_only_a_broken_gpu_takes_its_node_out_of_the_job(error: BaseException, hardware: bool) -> None:
    """A wrong program would give the same error on the next node."""
    assert is_hardware(error) == hardware


@pytest.mark.parametrize(("rank", "code", "said"), [("0", 2, True), ("1", 2, False), ("1", 1, True)])
def test_a_refusal_that_all_ranks_share_is_said_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], rank: str, code: int, said: bool
) -> None:
    monkeypatch.setenv("RANK", rank)
    assert refuse(UserError("it cannot be", code=code)) == code
    assert ("it cannot be" in capsys.readouterr().err) == said


def test_help_needs_no_torch(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "jobctl.trainer.distributed", None)
    assert main(["--help"]) == 0
    assert "--run_dir" in capsys.readouterr().out

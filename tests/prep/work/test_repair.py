from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from jobctl.prep import verify
from tests.prep.conftest import lines, run_prep, some_texts


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "text"
    folder.mkdir()
    for number in range(4):
        (folder / f"{number}.jsonl").write_bytes(lines(some_texts(100, number)))
    return folder


def contents(output: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in output.iterdir() if path.is_file()}


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2])


OPTIONS = [[], ["--duplicates", "exact"], ["--shuffle", "3"], ["--shuffle", "3", "--duplicates", "near"]]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("damage", [os.unlink, shorten])
def test_a_shard_that_is_lost_is_made_again_byte_for_byte(
    root: Path, folder: Path, tmp_path: Path, options: list[str], damage: Callable[[Path], None]
) -> None:
    output = tmp_path / "out"
    given = ["--dataset", "x", "--tokenizer", "gpt2", "--root", root, "--source", folder, "--output", output]
    given += ["--shard-bytes", 20_000, "--validation-share", 0.1, "--workers", 1, *options]
    run_prep(*given)
    right = contents(output)
    shards = sorted(output.glob("train-*.bin"))
    assert len(shards) >= 2
    kept = shards[0].stat().st_mtime_ns

    damage(shards[1])
    said = run_prep(*given).stderr

    assert "1 task must be done again: shards are missing or damaged" in said
    assert contents(output) == right
    assert shards[0].stat().st_mtime_ns == kept


def test_the_verifier_repairs_bytes_that_changed(
    root: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = root / "datasets" / "x-gpt2"
    given = ["--dataset", "x", "--tokenizer", "gpt2", "--root", root, "--source", folder]
    run_prep(*given, "--shard-bytes", 20_000, "--workers", 1)
    right = contents(output)
    shard = min(output.glob("train-*.bin"))
    data = bytearray(shard.read_bytes())
    data[7] ^= 1
    shard.write_bytes(data)

    assert verify.main([str(output)]) == 1
    assert "\n1 problem\n" in capsys.readouterr().out
    assert verify.main([str(output), "--repair"]) == 0
    assert contents(output) == right


def test_the_verifier_looks_for_the_tokenizer_where_the_job_had_it(
    root: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "elsewhere" / "out"
    run_prep("--dataset", "x", "--tokenizer", "gpt2", "--root", root, "--source", folder, "--output", output)
    assert verify.main([str(output)]) == 0
    assert "NOT CHECKED" not in capsys.readouterr().out


def test_a_finished_job_does_not_take_a_source_that_changed_in_place(root: Path, folder: Path) -> None:
    given = ["--dataset", "x", "--tokenizer", "gpt2", "--root", root, "--source", folder, "--workers", 1]
    run_prep(*given)
    path = folder / "2.jsonl"
    data = path.read_bytes()
    path.write_bytes(data.replace(b"union", b"onion"))
    os.utime(path, ns=(1, 1))
    assert "2.jsonl changed: other bytes of the same size" in run_prep(*given, code=2).stderr

    # One that was only touched is the same.
    path.write_bytes(data)
    os.utime(path, ns=(2, 2))
    run_prep(*given)

"""The size of a job's data set: counted where it is, else the catalogue's estimate."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobctl.jobs.datasets import dataset_folder, dataset_size
from jobctl.jobs.spec.job_spec import JobSpec
from jobctl.jobs.spec.resolution import Choices, resolve


def spec_in(root: Path, target: str = "local") -> JobSpec:
    choices = Choices(model="qwen3_smoke", hardware="cpu", target=target)
    return resolve(choices, version="1", root=str(root)).spec


def write_meta(spec: JobSpec, text: str) -> None:
    folder = dataset_folder(spec)
    folder.mkdir(parents=True)
    (folder / "meta.json").write_text(text)


def test_a_data_set_that_is_here_is_counted(tmp_path: Path) -> None:
    spec = spec_in(tmp_path)
    shards = [
        {"file": "a", "split": "train", "tokens": 700},
        {"file": "b", "split": "train", "tokens": 300},
        {"file": "c", "split": "val", "tokens": 50},
    ]
    write_meta(spec, json.dumps({"vocab_size": 10, "shards": shards}))
    size = dataset_size(spec)
    assert size is not None
    assert size.tokens == 1000
    assert size.is_exact


@pytest.mark.parametrize("text", [None, "", "[]", '{"vocab_size": 1}', "\xff", '{"x": ' + "[" * 200_000])
def test_one_that_cannot_be_read_is_estimated(tmp_path: Path, text: str | None) -> None:
    spec = spec_in(tmp_path)
    if text is not None:
        write_meta(spec, text)

    size = dataset_size(spec)
    assert size is not None
    assert not size.is_exact
    assert size.tokens == pytest.approx(2.6e6, rel=0.1)


def test_one_on_a_volume_of_a_cluster_is_estimated(tmp_path: Path) -> None:
    spec = spec_in(tmp_path, target="k8s")
    size = dataset_size(spec)
    assert size is not None
    assert not size.is_exact

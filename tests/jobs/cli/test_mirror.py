"""``jobctl submit mirror``: text of the hub by a job, which takes up broken connections and is not done twice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.jobs.cli.test_cli import Invoke, jobctl
from tests.prep import hub as hubs

__all__ = ["jobctl"]

FILES = {f"data/train-{number}.parquet": bytes(range(256)) * 4000 for number in range(2)}
MIRROR = ("submit", "mirror", "--dataset", "slimpajama_6b", "--force", "--run", "m")


def test_text_of_the_hub_comes_by_a_job_and_is_not_fetched_again(
    jobctl: Invoke, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hubs.running({**FILES, "README.md": b"about"}) as hub:
        hub.cut["data/train-1.parquet"] = 1
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        code, _, err = jobctl(*MIRROR, "--wait")
        assert code == 0, err

    folder = root / "sources/slimpajama_6b"
    assert {name: (folder / name).read_bytes() for name in FILES} == FILES
    assert not (folder / "README.md").exists()
    assert json.loads(jobctl(*MIRROR, "--json")[1])["state"] == "there"


def test_a_hub_that_cannot_be_reached_is_said_and_the_job_can_be_resumed(
    jobctl: Invoke, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    code, _, err = jobctl(*MIRROR, "--wait")
    assert code == 1
    assert "the hub cannot be asked for DKYoon/SlimPajama-6B" in err
    with hubs.running(dict(FILES)) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        assert jobctl("resume", "m", "--wait")[0] == 0

    assert (root / "sources/slimpajama_6b/data/train-0.parquet").is_file()

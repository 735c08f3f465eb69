"""Space and permission are looked at before a job is queued."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jobctl.jobs.core.errors import UserError
from jobctl.jobs.spec.job_spec import JobSpec
from jobctl.jobs.supplies import check_licence, check_space, is_on_the_hub, mirror_is_whole, needed_bytes

Job = Callable[..., JobSpec]
SLIM = {"model": None, "named": {"dataset": "slimpajama_6b", "tokenizer": "qwen3"}}


class Hub(http.server.BaseHTTPRequestHandler):
    """A hub that gives gated files to one token."""

    def do_HEAD(self) -> None:
        self.send_response(200 if self.headers["Authorization"] == "Bearer good" else 401)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("HF_ENDPOINT", address)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    yield address
    server.shutdown()
    server.server_close()


def tokenizer(job: Job, name: str = "llama2", **choices: object) -> JobSpec:
    return job("true", kind="tokenizer", model=None, named={"tokenizer": name}, **choices)


def test_a_licence_that_was_not_accepted_is_named_before_the_job(
    job: Job, hub: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    with pytest.raises(UserError, match="does not give you meta-llama/Llama-2-7b-hf") as caught:
        check_licence([tokenizer(job)], said.append)

    assert "$HF_TOKEN is not set" in caught.value.message
    assert "accept the licence at https://huggingface.co/meta-llama/Llama-2-7b-hf" in caught.value.hint
    monkeypatch.setenv("HF_TOKEN", "good")
    check_licence([tokenizer(job)], said.append)
    assert said == []


def test_a_tokenizer_that_anybody_may_read_is_not_asked_for(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    said: list[str] = []
    check_licence([tokenizer(job, "qwen3"), tokenizer(job, "gpt2")], said.append)
    assert said == []


def test_what_cannot_be_known_here_is_said_and_stops_nothing(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    said: list[str] = []
    check_licence([tokenizer(job)], said.append)
    check_licence([tokenizer(job, sets=("secrets_file=/etc/hosts",))], said.append)
    assert "the hub cannot be asked" in said[0]
    assert "its token is in the secrets file" in said[1]


def test_a_mirror_and_its_tokens_need_their_space(job: Job, root: Path) -> None:
    mirror = job("true", kind="mirror", **SLIM)
    prep = job("true", kind="prep", **SLIM)
    assert (needed_bytes(mirror), needed_bytes(prep)) == (14.2e9, 6.0e9 * 4)
    check_space([mirror, prep], lambda folder: 39 * 10**9)
    with pytest.raises(UserError, match=r"has 38\.00 GB free, and the jobs write about 38\.20 GB"):
        check_space([mirror, prep], lambda folder: 38 * 10**9)

    present = root / "sources/slimpajama_6b/data"
    present.mkdir(parents=True)
    (present / "one").write_bytes(b"x" * 1000)
    assert needed_bytes(mirror) == 14.2e9 - 1000


def test_the_volume_of_a_cluster_is_not_looked_at(job: Job) -> None:
    check_space([job("true", kind="mirror", target="k8s", **SLIM)], lambda folder: 0)
    assert needed_bytes(job("true")) == 0


@pytest.mark.parametrize("record", [None, "{", '{"files": [{"path": "gone", "size": 1}]}'])
def test_a_mirror_without_a_whole_record_is_not_whole(tmp_path: Path, record: str | None) -> None:
    if record is not None:
        (tmp_path / ".mirror.json").write_text(record)

    assert not mirror_is_whole(tmp_path)


def test_the_catalogue_says_which_text_is_on_the_hub() -> None:
    assert is_on_the_hub("slimpajama_627b")
    assert not is_on_the_hub("sotu")
    assert not is_on_the_hub("mine")

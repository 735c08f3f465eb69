from __future__ import annotations

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import huggingface_hub
import pytest
from huggingface_hub import errors

from jobctl.jobs.core.errors import UserError
from jobctl.jobs.core.layout import tokenizer_dir
from jobctl.prep.encode import tokenizers
from tests.prep import real_tokenizers


def test_gpt2_is_made_of_the_shipped_files_once(tmp_path: Path) -> None:
    record = tokenizers.ensure(tmp_path, "gpt2")
    file = tokenizer_dir(tmp_path, "gpt2") / "tokenizer.json"
    before = file.stat().st_mtime_ns
    assert tokenizers.ensure(tmp_path, "gpt2") == record
    assert file.stat().st_mtime_ns == before
    assert record.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()


def test_another_tokenizer_under_the_name_is_refused(tmp_path: Path) -> None:
    folder = tokenizer_dir(tmp_path, "llama3")
    folder.mkdir(parents=True)
    (folder / "tokenizer.json").write_bytes(real_tokenizers.tokenizer_json("qwen3").read_bytes())
    with pytest.raises(UserError, match="151669 ids, tokenizer 'llama3' has 128256"):
        tokenizers.ensure(tmp_path, "llama3")


def test_a_tokenizer_of_the_right_size_with_other_ids_is_refused(tmp_path: Path) -> None:
    tokenizers.ensure(tmp_path, "gpt2")
    file = tokenizer_dir(tmp_path, "gpt2") / "tokenizer.json"
    data = json.loads(file.read_text())
    data["model"]["merges"] = data["model"]["merges"][100:]
    file.write_text(json.dumps(data))
    with pytest.raises(UserError, match="other ids"):
        tokenizers.ensure(tmp_path, "gpt2")


@pytest.mark.parametrize("text", ["", "{}", "not json", '{"model": {"type": "BPE"}}'])
def test_a_damaged_file_is_refused_with_what_to_do(tmp_path: Path, text: str) -> None:
    folder = tokenizer_dir(tmp_path, "qwen3")
    folder.mkdir(parents=True)
    (folder / "tokenizer.json").write_text(text)
    with pytest.raises(UserError, match="is not a tokenizer") as caught:
        tokenizers.ensure(tmp_path, "qwen3")
    assert "jobctl tokenizer qwen3" in caught.value.hint


def test_an_absent_tokenizer_says_how_to_fetch_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'llama2' is not in") as caught:
        tokenizers.ensure(tmp_path, "llama2")
    assert "jobctl tokenizer llama2" in caught.value.hint


def served(monkeypatch: pytest.MonkeyPatch, name: str, damage: bytes = b"") -> list[dict[str, Any]]:
    """A hub that serves one tokenizer, with ``damage`` behind what it should be; what it was asked is returned."""
    asked: list[dict[str, Any]] = []

    def content(file: str) -> bytes:
        return real_tokenizers.tokenizer_json(name).read_bytes() if file == "tokenizer.json" else b"{}"

    def listed(_: object, repo: str, file: str, **more: object) -> list[SimpleNamespace]:
        large = (
            SimpleNamespace(sha256=hashlib.sha256(content(file)).hexdigest())
            if file == "tokenizer.json"
            else None
        )
        return [
            SimpleNamespace(lfs=large, blob_id="9e26dfeeb6e641a33dae4961196235bdb965b21b")
        ]  # git's, of "{}"

    monkeypatch.setattr(huggingface_hub.HfApi, "get_paths_info", listed)

    def download(repo: str, file: str, *, local_dir: Path, **more: object) -> None:
        asked.append({"repo": repo, "file": file, **more})
        local_dir.mkdir(parents=True, exist_ok=True)
        (local_dir / file).write_bytes(content(file) + damage)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    return asked


def test_fetching_puts_a_checked_tokenizer_into_the_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = served(monkeypatch, "llama3")
    monkeypatch.setenv("MY_TOKEN", "secret")
    folder = tokenizers.fetch("llama3", tmp_path, "MY_TOKEN")
    assert sorted(path.name for path in folder.iterdir()) == ["tokenizer.json", "tokenizer_config.json"]
    assert {(item["repo"], item["token"]) for item in asked} == {("meta-llama/Llama-3.1-8B", "secret")}
    tokenizers.ensure(tmp_path, "llama3")
    assert tokenizers.fetch("llama3", tmp_path) == folder
    assert len(asked) == 2


def test_a_file_that_is_damaged_on_its_way_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served(monkeypatch, "llama3", damage=b" ")
    with pytest.raises(UserError, match=r"tokenizer\.json of .* was damaged during the download"):
        tokenizers.fetch("llama3", tmp_path)
    assert list((tmp_path / "tokenizers").iterdir()) == []


def test_a_hub_that_serves_another_tokenizer_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served(monkeypatch, "llama2")
    with pytest.raises(UserError, match="32000 ids"):
        tokenizers.fetch("llama3", tmp_path)
    assert list((tmp_path / "tokenizers").iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (errors.GatedRepoError, "licence was not accepted"),
        (errors.RepositoryNotFoundError, "the hub knows no"),
        (errors.LocalEntryNotFoundError, "could not be fetched"),
    ],
)
def test_what_the_hub_refuses_is_said_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Exception], said: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        if kind is errors.LocalEntryNotFoundError:
            raise kind("no network")
        response = httpx2.Response(403, request=httpx2.Request("GET", "https://huggingface.co/x"))
        raise kind("refused", response=response)  # type: ignore[call-arg]

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    with pytest.raises(UserError, match=said):
        tokenizers.fetch("llama2", tmp_path)
    assert not tokenizer_dir(tmp_path, "llama2").exists()

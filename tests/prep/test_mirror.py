from __future__ import annotations

import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest

from jobs.catalog.errors import UserError
from prep import mirror as mirrors
from prep.mirror import mirror

CONTENTS = {f"train/chunk{i}.jsonl.zst": bytes([i]) * 1000 for i in range(5)} | {"README.md": b"hello"}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A hub in memory: what it serves may be changed, and what was asked for is kept."""
    state: dict[str, Any] = {"contents": dict(CONTENTS), "asked": [], "tokens": set()}

    class Api:
        def __init__(self, token: object) -> None:
            state["tokens"].add(token)

        def dataset_info(self, name: str, revision: str, files_metadata: bool) -> SimpleNamespace:
            siblings = [
                SimpleNamespace(
                    rfilename=path,
                    size=len(data),
                    lfs=SimpleNamespace(sha256=hashlib.sha256(data).hexdigest())
                    if path != "README.md"
                    else None,
                )
                for path, data in CONTENTS.items()
            ]
            return SimpleNamespace(siblings=siblings)

    def download(repo: str, path: str, *, local_dir: Path, **_: object) -> None:
        state["asked"].append(path)
        if path not in state["contents"]:
            raise OSError(101, "Network is unreachable")
        target = local_dir / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(state["contents"][path])

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    return state


def test_the_files_that_the_patterns_name_are_mirrored_once(hub: dict[str, Any], tmp_path: Path) -> None:
    assert mirror("slimpajama_627b", tmp_path) == 5
    folder = tmp_path / "sources" / "slimpajama_627b"
    found = {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }
    assert found == {path: data for path, data in CONTENTS.items() if path != "README.md"}
    assert mirror("slimpajama_627b", tmp_path) == 0
    assert len(hub["asked"]) == 5


def test_it_goes_on_where_it_was_cut_off(hub: dict[str, Any], tmp_path: Path) -> None:
    lost = hub["contents"].pop("train/chunk3.jsonl.zst")
    with pytest.raises(UserError, match=r"chunk3.*Network is unreachable"):
        mirror("slimpajama_627b", tmp_path)
    hub["contents"]["train/chunk3.jsonl.zst"] = lost
    hub["asked"].clear()
    mirror("slimpajama_627b", tmp_path)
    assert "train/chunk3.jsonl.zst" in hub["asked"]
    assert "train/chunk0.jsonl.zst" not in hub["asked"]


def test_other_bytes_of_the_same_size_are_refused_and_not_kept(hub: dict[str, Any], tmp_path: Path) -> None:
    hub["contents"]["train/chunk2.jsonl.zst"] = b"x" * 1000
    with pytest.raises(UserError, match="other bytes"):
        mirror("slimpajama_627b", tmp_path)
    assert not (tmp_path / "sources/slimpajama_627b/train/chunk2.jsonl.zst").exists()


def test_check_finds_what_was_damaged_on_the_disk(hub: dict[str, Any], tmp_path: Path) -> None:
    mirror("slimpajama_627b", tmp_path)
    path = tmp_path / "sources/slimpajama_627b/train/chunk4.jsonl.zst"
    path.write_bytes(b"y" * 1000)
    assert mirror("slimpajama_627b", tmp_path) == 0
    assert mirror("slimpajama_627b", tmp_path, check=True) == 1
    assert path.read_bytes() == CONTENTS["train/chunk4.jsonl.zst"]


def test_the_token_comes_from_the_environment_and_only_when_it_is_there(
    hub: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    mirror("slimpajama_627b", tmp_path / "a")
    monkeypatch.setenv("MY_TOKEN", "secret")
    mirror("slimpajama_627b", tmp_path / "b", token_env="MY_TOKEN")
    assert hub["tokens"] == {False, "secret"}


def test_a_data_set_that_is_not_on_the_hub_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not on the hub"):
        mirror("sotu", tmp_path)
    assert mirrors.source_dir(tmp_path, "sotu").exists() is False

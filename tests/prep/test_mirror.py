"""The mirror, with huggingface_hub asking a hub on this machine over HTTP."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from jobctl.jobs.catalog.data import DatasetEntry
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.core.layout import source_dir
from jobctl.prep import mirror as mirrors
from jobctl.prep.mirror import mirror
from jobctl.prep.sources.origins import find

from . import hub as hubs
from .conftest import lines, run_prep, some_texts
from .hub import Hub

ENTRY = DatasetEntry(summary="", license="", hub="someone/texts", patterns=["train/*.jsonl"])
CONTENTS = {f"train/deep/chunk{i}.jsonl": lines(some_texts(400, i)) for i in range(4)} | {
    "README.md": b"hello"
}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(mirrors, "PAUSE", 0.0)
    with hubs.running(dict(CONTENTS)) as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.partition("/{repo_id}")
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "".join(template[1:]))
        yield hub


def held(root: Path) -> dict[str, bytes]:
    folder = source_dir(root, "texts")
    files = (path for path in folder.rglob("*") if path.is_file())
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
    return {name: data for name, data in found.items() if not name.startswith(".")}


def texts() -> dict[str, bytes]:
    return {path: data for path, data in CONTENTS.items() if path != "README.md"}


def fetched(hub: Hub) -> list[str]:
    return [
        path.rpartition("/")[2] for method, path, _ in hub.asked if method == "GET" and "/resolve/" in path
    ]


def test_the_files_that_the_patterns_name_are_mirrored_once_and_at_one_commit(
    hub: Hub, tmp_path: Path
) -> None:
    assert mirror("texts", ENTRY, tmp_path) == 4
    assert held(tmp_path) == texts()
    assert all(hubs.COMMIT in path for _, path, _ in hub.asked if "/resolve/" in path)
    hub.asked.clear()
    assert mirror("texts", ENTRY, tmp_path) == 0
    assert fetched(hub) == []


def test_broken_connections_are_taken_up_again(hub: Hub, tmp_path: Path) -> None:
    hub.cut = {"train/deep/chunk1.jsonl": 3, "train/deep/chunk2.jsonl": 1}
    assert mirror("texts", ENTRY, tmp_path) == 4
    assert held(tmp_path) == texts()
    assert hub.cut == {"train/deep/chunk1.jsonl": 0, "train/deep/chunk2.jsonl": 0}


def test_it_goes_on_where_it_was_cut_off_and_prep_takes_no_half_mirror(hub: Hub, tmp_path: Path) -> None:
    hub.cut = {"train/deep/chunk3.jsonl": 10**6}
    with pytest.raises(UserError, match=r"chunk3\.jsonl of someone/texts could not be fetched") as caught:
        mirror("texts", ENTRY, tmp_path)
    assert "run the same command again" in caught.value.hint
    with pytest.raises(UserError, match=r"not complete: 1 of 4 files are missing; the first: .*chunk3"):
        find(tmp_path, "texts", ENTRY, [])
    hub.cut.clear()
    hub.asked.clear()
    assert mirror("texts", ENTRY, tmp_path) == 1
    assert set(fetched(hub)) == {"chunk3.jsonl"}
    assert len(find(tmp_path, "texts", ENTRY, [])) == 4


def test_other_bytes_of_the_same_size_are_refused_and_not_kept(hub: Hub, tmp_path: Path) -> None:
    path = "train/deep/chunk2.jsonl"
    hub.served = {path: b"x" * len(CONTENTS[path])}
    with pytest.raises(UserError, match="came with other bytes"):
        mirror("texts", ENTRY, tmp_path)
    assert path not in held(tmp_path)


def test_what_was_damaged_on_the_disk_is_found_by_check_and_by_prep(
    hub: Hub, tmp_path: Path, gpt2_root: Path
) -> None:
    (tmp_path / "tokenizers").symlink_to(gpt2_root / "tokenizers")
    mirror("texts", ENTRY, tmp_path)
    path = source_dir(tmp_path, "texts") / "train/deep/chunk0.jsonl"
    right = path.read_bytes()
    path.write_bytes(right.replace(b"the", b"THE", 1))
    arguments = ["--dataset", "texts", "--tokenizer", "gpt2", "--root", tmp_path]
    assert "chunk0.jsonl has other bytes than the manifest says" in run_prep(*arguments, code=2).stderr
    assert mirror("texts", ENTRY, tmp_path) == 0
    assert mirror("texts", ENTRY, tmp_path, check=True) == 1
    assert path.read_bytes() == right
    run_prep(*arguments)


def test_a_file_that_changed_on_the_hub_is_fetched_again(hub: Hub, tmp_path: Path) -> None:
    mirror("texts", ENTRY, tmp_path)
    path = "train/deep/chunk0.jsonl"
    hub.files[path] = CONTENTS[path].replace(b"the", b"THE", 1)
    assert mirror("texts", ENTRY, tmp_path) == 1
    assert held(tmp_path)[path] == hub.files[path]


def test_a_licence_that_was_not_accepted_is_said_in_words_and_a_token_opens_it(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.gated, hub.token = True, "secret"
    with pytest.raises(UserError, match="the licence of someone/texts was not accepted"):
        mirror("texts", ENTRY, tmp_path)
    monkeypatch.setenv("MY_TOKEN", "secret")
    assert mirror("texts", ENTRY, tmp_path, token_env="MY_TOKEN") == 4


def test_a_hub_that_is_away_and_a_pattern_that_fits_nothing_are_said_in_words(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="has no file like"):
        mirror("texts", DatasetEntry(summary="", license="", hub="a/b", patterns=["*.xml"]), tmp_path)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(UserError, match="cannot be asked for someone/texts"):
        mirror("texts", ENTRY, tmp_path)


def test_a_data_set_of_the_hub_that_the_catalogue_lacks_is_mirrored_and_prepared(
    hub: Hub, tmp_path: Path, gpt2_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tokenizers").symlink_to(gpt2_root / "tokenizers")
    monkeypatch.setitem(os.environ, "JOBCTL_ROOT", str(tmp_path))
    assert mirrors.main(["--dataset", "mine", "--hub", "someone/texts"]) == 0
    run_prep("--dataset", "mine", "--tokenizer", "gpt2", "--root", tmp_path)
    assert (tmp_path / "datasets" / "mine-gpt2" / "meta.json").exists()


def test_a_data_set_that_is_not_on_the_hub_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not on the hub"):
        mirror("sotu", DatasetEntry(summary="", license=""), tmp_path)
    assert source_dir(tmp_path, "sotu").exists() is False


@pytest.mark.parametrize("name", ["../../../victim.txt", "/victim.txt", "a/../../victim.txt", "a\\b.jsonl"])
def test_a_list_that_leads_out_of_the_mirror_touches_nothing(hub: Hub, tmp_path: Path, name: str) -> None:
    root = tmp_path / "a" / "b"
    victim = tmp_path / "victim.txt"
    victim.write_text("precious")
    hub.files[name] = b"evil"
    everything = DatasetEntry(summary="", license="", hub="someone/texts")
    with pytest.raises(UserError, match="the hub's list of someone/texts cannot be trusted"):
        mirror("texts", everything, root)
    assert victim.read_text() == "precious"
    assert not source_dir(root, "texts").exists()
    assert fetched(hub) == []


@pytest.mark.parametrize("name", [".mirror.json", ".cache/huggingface/download/x"])
def test_a_file_that_would_take_a_records_place_is_refused(hub: Hub, tmp_path: Path, name: str) -> None:
    hub.files[name] = b"{}"
    with pytest.raises(UserError, match="a name that the mirror needs"):
        mirror("texts", DatasetEntry(summary="", license="", hub="someone/texts"), tmp_path)


@pytest.mark.parametrize("link", ["train", "train/deep/chunk1.jsonl"])
def test_nothing_is_removed_or_written_over_a_link_in_the_mirror(hub: Hub, tmp_path: Path, link: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "deep").mkdir(parents=True)
    victim = elsewhere / "deep" / "chunk1.jsonl"
    victim.write_text("precious")
    path = source_dir(tmp_path, "texts") / link
    path.parent.mkdir(parents=True)
    path.symlink_to(elsewhere if link == "train" else victim)
    with pytest.raises(UserError, match="is a symbolic link"):
        mirror("texts", ENTRY, tmp_path)
    assert victim.read_text() == "precious"
    assert os.listdir(elsewhere / "deep") == ["chunk1.jsonl"]

"""Ids of nanoGPT and of Megatron-LM become data sets where they are, and the trainer trains on them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from jobctl.jobs.core.errors import UserError
from jobctl.prep import adopt as adopting
from jobctl.prep.encode.reference import ReferenceEncoder
from jobctl.prep.encode.tokenizer_file import TokenizerFile
from jobctl.prep.shards.format import open_dataset
from jobctl.prep.verify import verify
from tests.prep.conftest import some_texts
from tests.prep.shards import megatron_files
from tests.trainer.corpus import arguments
from tests.trainer.running import losses, train

EOS = 50256
MODEL = {"architecture": "gpt2", "vocab_size": 50304, "head_dim": 16, "num_key_value_heads": 2}


@pytest.fixture(scope="module")
def documents(gpt2_root: Path) -> list[list[int]]:
    file = gpt2_root / "tokenizers" / "gpt2" / "tokenizer.json"
    encoded = ReferenceEncoder(TokenizerFile(file)).encode(some_texts(120))
    return [[*ids.tolist(), EOS] for ids in encoded]


def nano_gpt(folder: Path, documents: Sequence[Sequence[int]], dtype: str = "<u2") -> Path:
    """Write what nanoGPT's data/openwebtext/prepare.py does: all documents end to end, each with its EOT."""
    folder.mkdir()
    for name, part in (("train", documents[:100]), ("val", documents[100:])):
        np.concatenate([np.array(document, dtype) for document in part]).tofile(folder / f"{name}.bin")

    return folder


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def adopted(folder: Path, root: Path, *more: str) -> int:
    return adopting.main([str(folder), "--tokenizer", "gpt2", "--root", str(root), *more])


def trained(folder: Path, run: Path) -> list[float]:
    """Train a few steps with the real trainer, and evaluate."""
    assert train(arguments(folder, run, **MODEL, max_iters=4, eval_interval=2, learning_rate=1e-3)) == 0
    return losses(run)


def test_nano_gpts_files_are_used_where_they_are(
    tmp_path: Path, root: Path, documents: list[list[int]], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = nano_gpt(tmp_path / "owt", documents)
    before = files_in(folder)
    assert adopted(folder, root) == 0
    assert "it begins: " in capsys.readouterr().err

    after = files_in(folder)
    assert after.keys() - before.keys() == {"meta.json"}
    assert {name: after[name] for name in before} == before

    meta = open_dataset(folder).meta
    assert (meta.dataset, meta.dtype, meta.documents, meta.eos_id) == ("owt", "uint16", 120, EOS)
    assert open_dataset(folder, "val").num_tokens == sum(map(len, documents[100:]))
    assert verify(folder, root).problems == []
    assert len(trained(folder, tmp_path / "run")) == 4


@pytest.mark.parametrize("dtype", ["uint16", "int32"])
def test_megatrons_files_are_used_where_they_are(
    tmp_path: Path, root: Path, documents: list[list[int]], dtype: str
) -> None:
    folder = tmp_path / "pile"
    megatron_files.write(folder / "a_text_document", documents[:50], dtype)
    megatron_files.write(folder / "b_text_document", documents[50:100], dtype)
    megatron_files.write(folder / "valid_text_document", documents[100:], dtype)
    assert adopted(folder, root, "--validation", "valid*") == 0

    tokens = open_dataset(folder)
    expected = [number for document in documents[:100] for number in document]
    assert tokens.read(0, tokens.num_tokens).tolist() == expected
    assert verify(folder, root).problems == []
    assert len(trained(folder, tmp_path / "run")) == 4


def test_ids_that_the_tokenizer_does_not_have_are_refused(
    tmp_path: Path, root: Path, documents: list[list[int]]
) -> None:
    folder = nano_gpt(tmp_path / "owt", [*documents, [50257]])
    with pytest.raises(UserError, match=r"val\.bin: token \d+ is 50257, but the tokenizer has 50257 ids"):
        adopted(folder, root)

    assert not (folder / "meta.json").exists()


def test_an_index_of_other_ids_is_refused(tmp_path: Path, root: Path, documents: list[list[int]]) -> None:
    folder = tmp_path / "pile"
    index = megatron_files.write(folder / "a", documents)
    file = index.with_suffix(".bin")
    file.write_bytes(file.read_bytes()[:-2])
    with pytest.raises(UserError, match=r"a\.bin has \d+ ids, but its index says \d+"):
        adopted(folder, root)


def test_ids_of_twice_the_width_are_seen(tmp_path: Path, root: Path, documents: list[list[int]]) -> None:
    """Read as uint16, every other id would be 0, which the vocabulary has."""
    folder = nano_gpt(tmp_path / "wide", documents, "<u4")
    with pytest.raises(UserError, match=r"train\.bin: every other id is 0, .*\n.*--dtype uint32"):
        adopted(folder, root)

    assert adopted(folder, root, "--dtype", "uint32") == 0
    assert open_dataset(folder).meta.dtype == "uint32"
    assert verify(folder, root).problems == []


def test_what_the_files_do_not_have_is_said(
    tmp_path: Path, root: Path, documents: list[list[int]], capsys: pytest.CaptureFixture[str]
) -> None:
    """nanoGPT's Shakespeare has no document's end; Megatron's has none without --append-eod."""
    folder = tmp_path / "bare"
    megatron_files.write(folder / "a", [document[:-1] for document in documents[:50]])
    megatron_files.write(folder / "b", [documents[0][:-1], *documents[1:50]])
    assert adopted(folder, root) == 0
    said = capsys.readouterr().err
    assert "a.bin has no <|endoftext|>, so the ends of documents are unknown" in said
    assert "b.bin has 49 <|endoftext|> for the 50 documents of its index" in said
    assert "the data has no validation split" in said
    assert verify(folder, root).problems == []


def test_folders_that_are_not_to_be_adopted(tmp_path: Path, root: Path, documents: list[list[int]]) -> None:
    folder = nano_gpt(tmp_path / "owt", documents)
    with pytest.raises(UserError, match=r"no \.bin of .* is like dev"):
        adopted(folder, root, "--validation", "dev*")

    (folder / "meta.pkl").write_bytes(b"never opened")
    with pytest.raises(UserError, match="may mean characters"):
        adopted(folder, root)

    (folder / "meta.pkl").unlink()
    (folder / "meta.json").write_text(json.dumps({}))
    with pytest.raises(UserError, match="it is already a data set"):
        adopted(folder, root)

    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"has no \.bin file for training"):
        adopted(tmp_path / "empty", root)

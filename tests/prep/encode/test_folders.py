from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from jobctl.jobs.core.errors import UserError
from jobctl.prep.encode import folders
from jobctl.prep.encode.encoders import Encoders
from jobctl.prep.encode.tokenizer_file import TokenizerFile
from jobctl.prep.shards.format import open_dataset
from jobctl.prep.verify import verify
from tests.prep.conftest import lines, run_prep, some_texts

END = "<end>"


def byte_level(folder: Path, normalizer: Any = None, prefix: bool = False) -> Path:
    """Train a small byte-level BPE, as a model of the hub has one."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    tokenizer.decoder = decoders.ByteLevel()
    if normalizer:
        tokenizer.normalizer = normalizer

    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<begin>", END], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(some_texts(50), trainer)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def written(folder: Path, name: str, settings: dict[str, Any]) -> Path:
    (folder / name).write_text(json.dumps(settings))
    return folder


@pytest.mark.parametrize("end", [END, {"content": END, "lstrip": False}])
@pytest.mark.parametrize("name", ["tokenizer_config.json", "special_tokens_map.json"])
def test_the_entry_is_read_from_the_folders_files(tmp_path: Path, name: str, end: Any) -> None:
    folder = written(byte_level(tmp_path / "mine"), name, {"eos_token": end, "bos_token": "<begin>"})
    written(folder, "config.json", {"vocab_size": 320})
    entry = folders.entry_of_folder(folder)
    assert (entry.eos_token, entry.eos_id, entry.bos_id) == (END, 1, 0)
    assert (entry.vocab_size, entry.model_vocab_size) == (300, 320)
    assert entry.encoders == ["tokenizers"]
    assert not entry.is_catalogued


def test_a_model_with_fewer_rows_than_the_tokenizer_has_ids_is_refused(tmp_path: Path) -> None:
    folder = written(byte_level(tmp_path / "mine"), "tokenizer_config.json", {"eos_token": END})
    for settings in ({"vocab_size": 299}, {"text_config": {"vocab_size": 299}}):
        written(folder, "config.json", settings)
        with pytest.raises(UserError, match="gives the model 299 ids, but its tokenizer has 300"):
            folders.entry_of_folder(folder)


def test_what_the_folder_does_not_say_is_asked_for(tmp_path: Path) -> None:
    folder = byte_level(tmp_path / "mine")
    with pytest.raises(UserError, match=r"does not say which token ends a document\n.*--eos-token"):
        folders.entry_of_folder(folder)

    with pytest.raises(UserError, match="has no token '<stop>'"):
        folders.entry_of_folder(folder, "<stop>")

    assert folders.entry_of_folder(folder, END).eos_id == 1

    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match=r"tokenizer\.json is not a tokenizer"):
        folders.entry_of_folder(folder, END)

    (folder / "tokenizer.json").unlink()
    with pytest.raises(UserError, match=r"has no tokenizer\.json\n.*save_pretrained"):
        folders.entry_of_folder(folder, END)


def test_the_catalogues_tokenizers_tell_texts_apart(files: dict[str, Path]) -> None:
    assert {name: TokenizerFile(file).tells_texts_apart for name, file in files.items()} == {
        "gpt2": True,
        "llama2": True,
        "llama3": True,
        "qwen3": True,
    }


@pytest.mark.parametrize(
    "normalizer",
    [normalizers.NFKC(), normalizers.Lowercase(), normalizers.Strip(), normalizers.StripAccents()],
)
def test_one_that_loses_something_does_not(tmp_path: Path, normalizer: Any) -> None:
    folder = byte_level(tmp_path / "mine", normalizer)
    assert not TokenizerFile(folder / "tokenizer.json").tells_texts_apart


def test_a_space_in_front_and_a_small_alphabet_lose_something(tmp_path: Path) -> None:
    folder = byte_level(tmp_path / "mine", prefix=True)
    assert not TokenizerFile(folder / "tokenizer.json").tells_texts_apart

    words = Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1, END: 2}, unk_token="[UNK]"))
    words.save(str(folder / "tokenizer.json"))
    assert not TokenizerFile(folder / "tokenizer.json").tells_texts_apart


def test_a_fast_encoder_that_nobody_has_proven_is_refused(tmp_path: Path) -> None:
    folder = byte_level(tmp_path / "mine")
    entry = folders.entry_of_folder(folder, END)
    file = folder / "tokenizer.json"
    with pytest.raises(UserError, match="--encoder gigatoken: nobody has proven"):
        Encoders(entry, "gigatoken", file).fast  # noqa: B018

    assert Encoders(entry, "auto", file).fast.name == "tokenizers"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    texts = some_texts(200)
    path = tmp_path / "a.jsonl"
    path.write_bytes(lines([*texts, *(text.upper() for text in texts)]))
    return path


def test_a_folder_prepares_data_that_verify_finds_right(tmp_path: Path, data: Path) -> None:
    """Its normaliser makes different texts equal: they are in one split all the same."""
    folder = byte_level(tmp_path / "mine", normalizers.Lowercase())
    written(folder, "tokenizer_config.json", {"eos_token": END})
    root = tmp_path / "root"
    root.mkdir()
    given = ["--dataset", "d", "--source", data, "--root", root, "--validation-share", "0.3"]
    run_prep("--tokenizer", folder, *given)

    output = root / "datasets" / "d-mine"
    report = verify(output)
    assert report.problems == []
    assert report.unchecked == []
    meta = open_dataset(output).meta
    assert (meta.tokenizer.name, meta.vocab_size, meta.eos_id, meta.documents) == ("mine", 300, 1, 400)

    # By its name alone it goes on where the folder was copied to.
    again = run_prep("--tokenizer", "mine", *given, "--json")
    assert json.loads(again.stdout)["fingerprint"] == meta.fingerprint


def test_a_folder_of_a_name_that_is_taken_is_refused(tmp_path: Path, data: Path, root: Path) -> None:
    folder = written(byte_level(tmp_path / "gpt2"), "tokenizer_config.json", {"eos_token": END})
    given = ["--dataset", "d", "--source", data]
    done = run_prep("--tokenizer", folder, *given, "--root", root, code=2)
    assert "tokenizer 'gpt2' has 50257" in done.stderr

    other = tmp_path / "other"
    other.mkdir()
    shutil.copytree(byte_level(tmp_path / "mine"), other / "tokenizers" / "mine")
    folder = written(
        byte_level(tmp_path / "mine", normalizers.NFC()), "tokenizer_config.json", {"eos_token": END}
    )
    done = run_prep("--tokenizer", folder, *given, "--root", other, code=2)
    assert "is another tokenizer of the same name" in done.stderr


def test_a_folder_that_is_absent_and_a_name_that_nobody_knows_are_errors(tmp_path: Path, data: Path) -> None:
    given = ["--dataset", "d", "--source", data, "--root", tmp_path]
    assert "./gone is not a folder" in run_prep("--tokenizer", "./gone", *given, code=2).stderr
    assert "tokenizer" in run_prep("--tokenizer", "gone", *given, code=2).stderr

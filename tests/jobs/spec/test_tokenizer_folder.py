"""The copy of a tokenizer's folder that a job reads."""

import hashlib
from pathlib import Path

import pytest

from jobctl.jobs.core import tokenizer_files
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.spec.tokenizer_folder import describe, ship


def test_a_folder_that_changes_meanwhile_is_not_shipped(tmp_path: Path) -> None:
    source = tmp_path / "small"
    source.mkdir()
    (source / "tokenizer.json").write_text('{"model": {}}')
    name, tokenizer = describe(str(source))
    ship(tokenizer, tmp_path / "run/tokenizer" / name)
    assert (tmp_path / "run/tokenizer/small/tokenizer.json").read_text() == '{"model": {}}'
    (source / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match="changed during the submission"):
        ship(tokenizer, tmp_path / "run/tokenizer" / name)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A tokenizer's folder as transformers writes it, beside files that are none of ours."""
    source = tmp_path / "small"
    source.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "config.json"):
        (source / name).write_text(f'{{"file": "{name}"}}')
    (source / "model.safetensors").write_text("gigabytes")
    return source


def test_the_description_has_the_whole_path_and_the_hash_of_what_defines_the_tokenizer(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(source.parent)
    name, tokenizer = describe("./small")
    assert (name, tokenizer.folder) == ("small", str(source))
    assert tokenizer.sha256 == hashlib.sha256(b'{"file": "tokenizer.json"}').hexdigest()


def test_a_job_gets_every_file_of_the_tokenizer_and_no_weights(source: Path, tmp_path: Path) -> None:
    _, tokenizer = describe(str(source))
    ship(tokenizer, tmp_path / "run" / "tokenizer" / "small")
    shipped = {path.name: path.read_text() for path in (tmp_path / "run/tokenizer/small").iterdir()}
    assert shipped == {
        "config.json": '{"file": "config.json"}',
        "special_tokens_map.json": '{"file": "special_tokens_map.json"}',
        "tokenizer.json": '{"file": "tokenizer.json"}',
        "tokenizer_config.json": '{"file": "tokenizer_config.json"}',
    }


def test_a_tokenizer_that_is_gone_or_a_run_that_cannot_be_written_is_said_with_both_paths(
    source: Path, tmp_path: Path
) -> None:
    _, tokenizer = describe(str(source))
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(UserError, match=f"{source} cannot be copied to {tmp_path}/file/small: ") as refused:
        ship(tokenizer, tmp_path / "file" / "small")
    assert refused.value.code == 1

    for path in source.iterdir():
        path.unlink()
    with pytest.raises(UserError, match="cannot be copied to"):
        ship(tokenizer, tmp_path / "run")


def test_a_file_that_cannot_be_read_is_an_error_in_words(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: Path, most: int) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(tokenizer_files, "read_regular", refused)
    with pytest.raises(UserError, match=f"--tokenizer: {source} cannot be read: .*Permission denied"):
        describe(str(source))

"""The copy of a tokenizer's folder that a job reads."""

from pathlib import Path

import pytest

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
    with pytest.raises(UserError, match="was changed a moment ago"):
        ship(tokenizer, tmp_path / "run/tokenizer" / name)

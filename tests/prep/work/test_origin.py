"""The places of a job's text and tokenizer are kept beside its work."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobctl.jobs.core.errors import UserError
from jobctl.prep.work.job import work_dir
from jobctl.prep.work.origin import FILE, Origin, load, save


def test_another_node_reads_the_places_that_the_first_one_wrote(tmp_path: Path) -> None:
    origin = Origin(root="/shared", sources=("/texts/a", "/texts/b é"), ignore_unreadable=True)
    work_dir(tmp_path).mkdir(parents=True)
    save(tmp_path, origin)
    assert load(tmp_path) == origin


@pytest.mark.parametrize("content", [None, b"", b"{", b'{"sources": []}'])
def test_an_origin_that_is_absent_or_damaged_is_named(tmp_path: Path, content: bytes | None) -> None:
    folder = work_dir(tmp_path)
    folder.mkdir(parents=True)
    if content is not None:
        (folder / FILE).write_bytes(content)
    with pytest.raises(UserError, match="does not say where the sources are") as error:
        load(tmp_path)
    assert "run the command" in error.value.hint

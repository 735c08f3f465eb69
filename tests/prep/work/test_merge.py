from __future__ import annotations

from pathlib import Path

import pytest

from jobctl.jobs.core.errors import UserError
from tests.prep.conftest import MakeUnit, lines, some_texts
from tests.prep.work.test_unit import finish


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    records = lines(some_texts(20), meta={"set": "books", "lang": "en"}, id=1)
    (folder / "a.jsonl").write_bytes(records)
    return folder


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"source_field": "meta.sett"}, r"--source-field: .* 'meta.sett'\n.*did you mean 'meta.set'"),
        ({"language_field": "meta.lng", "languages": ["en"]}, r"--language-field: .*\n.*'meta.lang'"),
        (
            {"source_field": "meta.set", "weights": {"boks": 2.0}},
            r"--weights: no document's source is 'boks'\n.*did you mean 'books'",
        ),
        (
            {"language_field": "meta.lang", "languages": ["en", "english"]},
            r"--languages: no document's language is 'english'",
        ),
        ({"min_characters": 10_000}, "no document was kept; left out: short 20"),
    ],
)
def test_a_name_or_a_filter_that_matches_nothing_is_an_error(
    folder: Path, unit_job: MakeUnit, options: dict[str, object], said: str
) -> None:
    work = unit_job(folder, **options)
    with pytest.raises(UserError, match=said):
        finish(work, folder)
    assert not (work.output / "meta.json").exists()


def test_sources_without_a_document_are_an_error(tmp_path: Path, unit_job: MakeUnit) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "a.jsonl").write_bytes(b"")
    with pytest.raises(UserError, match="no document was kept: the sources have none"):
        finish(unit_job(tmp_path / "empty"), tmp_path / "empty")


def test_names_that_match_before_the_filters_are_right(folder: Path, unit_job: MakeUnit) -> None:
    work = unit_job(folder, source_field="meta.set", weights={"books": 2.0}, validation_share=0.0)
    finish(work, folder)
    assert (work.output / "meta.json").exists()


def test_the_message_says_why_lines_were_rejected(folder: Path, unit_job: MakeUnit) -> None:
    work = unit_job(folder, text_field="content")
    with pytest.raises(
        UserError, match=r"first: a.jsonl line 1: it has no field 'content'; its fields: text"
    ):
        finish(work, folder)

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobctl.jobs.core.errors import UserError
from jobctl.prep.select.language import check_languages, language_of
from tests.prep.conftest import MakeUnit, lines
from tests.prep.work.test_unit import finish

TEXTS = {
    "en": "Fellow citizens of the Senate and House of Representatives,\nI embrace with satisfaction.",
    "de": "Die Würde des Menschen ist unantastbar. Sie zu achten und zu schützen ist Verpflichtung aller Gewalt.",
    "fr": "Les hommes naissent et demeurent libres et égaux en droits; les distinctions sociales sont utiles.",
    "zh": "人人生而自由,在尊严和权利上一律平等。他们赋有理性和良心,并应以兄弟关系的精神相对待。",
}


@pytest.mark.parametrize("language", TEXTS)
def test_languages_are_told_apart(language: str) -> None:
    assert language_of(TEXTS[language]) == language


def test_a_language_that_the_model_does_not_name_is_refused() -> None:
    check_languages([*TEXTS, "yue", "qu"])  # of these two it is never sure
    with pytest.raises(UserError, match=r"calls no language 'english'\n.* en .* yue "):
        check_languages(["en", "english"])


def test_a_text_of_nothing_has_none() -> None:
    assert language_of("") == language_of(" \n") == ""


@pytest.mark.parametrize("field", ["", "lang"])
def test_only_the_languages_asked_for_are_kept(tmp_path: Path, unit_job: MakeUnit, field: str) -> None:
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "a.jsonl").write_bytes(b"".join(lines([text], lang=name) for name, text in TEXTS.items()))
    work = unit_job(folder, languages=["en", "fr"], language_field=field, validation_share=0.0)
    finish(work, folder)
    said = json.loads((work.output / "statistics.json").read_text())
    assert said["total"]["documents"] == 2
    assert said["left_out"] == {"language": 2}

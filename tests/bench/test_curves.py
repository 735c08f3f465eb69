from __future__ import annotations

import sys

import pytest

from bench import curves


@pytest.mark.parametrize("words", [[], ["qwen3_1.8b"], ["qwen3_1.8b", "float16", "data", "out.json"]])
def test_what_it_cannot_do_is_answered_with_how_it_is_used(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["curves", *words])
    with pytest.raises(SystemExit) as leaving:
        curves.main()
    assert leaving.value.code == 2
    assert "MODEL bfloat16|float8" in capsys.readouterr().err

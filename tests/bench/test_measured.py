"""Which settings an entrant's name stands for."""

from __future__ import annotations

from typing import Any

import pytest

from bench import entrants
from bench.measured import build


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("ours", {"kernels": "auto", "use_fp8": False, "compile": True}),
        ("ours-fp8", {"kernels": "auto", "use_fp8": True, "compile": True}),
        ("ours-plain", {"kernels": "plain", "use_fp8": False, "compile": True}),
        ("ours-eager", {"kernels": "plain", "use_fp8": False, "compile": False}),
    ],
)
def test_ours_is_the_trainer_with_the_catalogues_settings_but_what_the_name_says(
    name: str, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entrants, "Ours", lambda config, device, train: train)
    train = build({"model": "qwen3_1.8b", "entrant": name, "batch": 3}, None)
    assert {key: getattr(train, key) for key in settings} == settings
    assert (train.batch_size, train.learning_rate) == (3, 3e-4)


@pytest.mark.parametrize(("name", "master"), [("litgpt", "float32"), ("litgpt-bf16", "bfloat16")])
def test_peers_keep_the_weights_that_the_name_says(
    name: str, master: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entrants, "litgpt", lambda config, device, kept: kept)
    assert build({"model": "qwen3_1.8b", "entrant": name, "batch": 3}, None) == master

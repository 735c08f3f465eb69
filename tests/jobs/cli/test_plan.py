"""``jobctl plan`` as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path

from tests.jobs.cli.test_cli import Invoke, jobctl

__all__ = ["jobctl"]


def test_the_page_has_optimum_shapes_ties_and_advice(jobctl: Invoke) -> None:
    code, out, _ = jobctl("plan", "--flops", "1.36e21", "--family", "qwen3", "--count", "3")
    assert code == 0
    assert "3.253B parameters and 69.68B tokens" in out
    assert "are ties" in out
    assert "StepLaw" in out
    assert "times below what StepLaw and DeepSeek LLM say" in out


def test_json_ranks_the_shapes(jobctl: Invoke) -> None:
    words = ("--flops", "1e21", "--family", "llama3", "--fit", "hoffmann_2022", "--json")
    facts = json.loads(jobctl("plan", *words)[1])
    assert round(facts["optimum"]["parameters"] / 1e6) == 1824
    losses = [shape["loss"] for shape in facts["shapes"]]
    assert losses == sorted(losses)
    assert facts["shapes"][0]["tie"]


def test_picture_and_entry_are_written(jobctl: Invoke, tmp_path: Path) -> None:
    picture = tmp_path / "valley.svg"
    entry = tmp_path / "planned.yaml"
    words = ("--flops", "1e20", "--family", "llama2", "--ratio", "20", "--picture", str(picture))
    code, _, err = jobctl("plan", *words, "--write", str(entry))
    assert code == 0
    assert picture.read_text().startswith("<svg")
    assert "jobctl estimate --model ./planned.yaml" in err
    code, out, _ = jobctl("estimate", "--model", str(entry), "--hardware", "h200", "--json")
    assert code == 0
    assert json.loads(out)["fits"]


def test_a_wish_without_shape_is_said(jobctl: Invoke) -> None:
    code, _, err = jobctl("plan", "--flops", "1e21", "--params", "1e15")
    assert code == 2
    assert "no shape of" in err
    assert jobctl("plan")[0] == 2

"""``jobctl compare`` as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobctl.jobs.cli import main
from jobctl.jobs.core import layout
from tests.jobs.cli.test_analyze import call
from tests.jobs.monitoring.runs import write_run


def test_text_and_json(root: Path) -> None:
    write_run(layout.run_dir(root, "a"), seed=1)
    write_run(layout.run_dir(root, "b"), seed=1, scale=0.99, settings={"weight_decay": 0.2})
    shown = call("compare", "a", "b")
    assert "weight_decay" in shown.output
    assert "better (p" in shown.output
    facts = json.loads(call("compare", "a", "b", "--json").output)
    assert facts["settings"] == {"weight_decay": [0.1, 0.2]}


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["a"], 2, "a comparison needs at least two runs"),
        (["a", "a"], 2, "run 'a' is named twice"),
        (["a", "c"], 2, "no run 'c'"),
        (["a", "empty"], 1, "no step in its log yet"),
    ],
)
def test_what_cannot_be_compared_is_said(
    root: Path, capsys: pytest.CaptureFixture[str], words: list[str], code: int, message: str
) -> None:
    write_run(layout.run_dir(root, "a"))
    layout.metrics_dir(layout.run_dir(root, "empty")).mkdir(parents=True)
    with pytest.raises(SystemExit) as leaving:
        main(["compare", *words])

    assert (leaving.value.code, message in capsys.readouterr().err) == (code, True)

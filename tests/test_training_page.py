"""The first example of docs/training.md has the rows that a training prints today.

The page is in no image, so this test is not among those of the trainer, which run there.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch

from jobctl.jobs.catalog.schema import TrainConfig
from jobctl.trainer.reporting.startup import Peak, block
from tests.trainer.reporting.test_startup import FACTS


def test_the_page_shows_the_rows_of_today() -> None:
    page = (Path(__file__).parents[1] / "docs" / "training.md").read_text(encoding="utf-8")
    shown = page.partition("$ jobctl submit --model qwen3_smoke --run first")[2].partition("\nstep 10/")[0]
    rows = re.compile(r"^ *(\w[\w ]*?)  ", re.MULTILINE)
    facts = FACTS | {"checkpoint_saves": "a save copies 39.8 MB a rank"}
    now = block(facts, TrainConfig(), Peak(torch.device("cpu"), "bfloat16"), ["val-1"])
    assert rows.findall(shown) == rows.findall(now)

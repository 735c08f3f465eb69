"""One rank of the multi-GPU benchmark: which jobs it does alone, and what it says of those that fail."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from bench import ranks
from jobctl.trainer.distributed import World


class TwoRanks(World):
    """Rank 0 of two; the other one fails where the job says so."""

    def any(self, flag: bool) -> bool:
        return flag

    def gathered(self, value: Any, group: Any = None) -> list[Any]:
        return [value, None if value == 13.0 else 20.0]


def test_ranks_are_alone_where_the_way_says_so_and_failures_stand_beside_results(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes: dict[str, int] = {}

    def measure(job: dict[str, Any], world: World) -> dict[str, Any]:
        sizes[job["way"]] = world.size
        if job["way"] == "zero1":
            raise ValueError("no memory")
        return {"step_ms": job["step_ms"]}

    monkeypatch.setattr(ranks.parallel, "join", lambda *_: TwoRanks(0, 2, torch.device("cpu")))
    monkeypatch.setattr(ranks, "measure", measure)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "H200")
    monkeypatch.setattr(ranks.dist, "barrier", lambda: None)
    monkeypatch.setattr(ranks.os, "_exit", sys.exit)
    ways = {"none": 10.0, "torchtitan-none": 10.0, "ddp": 10.0, "zero1": 10.0, "fsdp": 13.0}
    listed = tmp_path / "jobs.json"
    listed.write_text(json.dumps([{"way": way, "step_ms": ms} for way, ms in ways.items()]))
    monkeypatch.setattr(sys, "argv", ["ranks", str(listed), str(math.inf)])
    with pytest.raises(SystemExit):
        ranks.main()
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert sizes == {"none": 1, "torchtitan-none": 1, "ddp": 2, "zero1": 2, "fsdp": 2}
    assert [result.get("ranks_ms") for result in printed] == [[10.0, 20.0]] * 3 + [None, None]
    assert [result.get("error", "")[:20] for result in printed] == [
        "",
        "",
        "",
        "ValueError: no memor",
        "a rank failed: [13.0",
    ]
    assert {result["gpus"] for result in printed} == {2}

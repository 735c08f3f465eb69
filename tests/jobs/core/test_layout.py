from pathlib import Path

import pytest

from jobctl.jobs.core import layout


@pytest.mark.parametrize("name", ["a", "qwen3_1.8b-train-20260101", "R2", "a" * 100])
def test_names_that_every_scheduler_takes(name: str) -> None:
    assert layout.RUN_NAME.fullmatch(name)


@pytest.mark.parametrize("name", ["", ".", "..", "-x", "a/b", "a b", "a\nb", "$(x)", "a" * 101, "ä"])
def test_names_that_are_refused(name: str) -> None:
    assert not layout.RUN_NAME.fullmatch(name)


def test_paths_stay_inside_the_run() -> None:
    run = layout.run_dir(Path("/w"), "r")
    inside = [
        layout.record_file(run), layout.attempt_file(run, 1), layout.script_file(run), layout.batch_log(run, 1),
        layout.rank_log(run, 1, 3), layout.metrics_dir(run), layout.checkpoints_dir(run), layout.stop_file(run),
    ]  # fmt: skip
    assert all(path.is_relative_to("/w/runs/r") for path in inside)
    assert len(set(inside)) == len(inside)

from collections.abc import Callable
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


RUN = Path("/w/runs/r")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (layout.run_dir(Path("/w"), "r"), "/w/runs/r"),
        (layout.pipeline_file(Path("/w"), "p"), "/w/pipelines/p.json"),
        (layout.tokenizer_dir(Path("/w"), "gpt2"), "/w/tokenizers/gpt2"),
        (layout.source_dir(Path("/w"), "wiki"), "/w/sources/wiki"),
        (layout.dataset_dir(Path("/w"), "wiki", "gpt2"), "/w/datasets/wiki-gpt2"),
        (layout.preparation_file(Path("/w/datasets/wiki-gpt2")), "/w/datasets/wiki-gpt2/.prep/status.json"),
        (layout.record_file(RUN), "/w/runs/r/run.json"),
        (layout.attempt_file(RUN, 12), "/w/runs/r/attempts/12.json"),
        (layout.script_file(RUN), "/w/runs/r/script"),
        (layout.code_dir(RUN), "/w/runs/r/code"),
        (layout.tokenizer_copy(RUN, "mine"), "/w/runs/r/tokenizer/mine"),
        (layout.rank_log(RUN, 12, 3), "/w/runs/r/logs/12/rank-00003.log"),
        (layout.rank_log(RUN, 1, 123_456), "/w/runs/r/logs/1/rank-123456.log"),
        (layout.batch_log(RUN, 12), "/w/runs/r/logs/12/batch.log"),
        (layout.hang_file(RUN, 12), "/w/runs/r/logs/12/hang/verdict.json"),
        (layout.bad_nodes_file(RUN, 12), "/w/runs/r/logs/12/bad-nodes"),
        (layout.tensorboard_dir(RUN), "/w/runs/r/metrics/tensorboard"),
        (layout.checkpoints_dir(RUN), "/w/runs/r/checkpoints"),
        (layout.stop_file(RUN), "/w/runs/r/STOP"),
        (layout.heartbeat_file(RUN), "/w/runs/r/.heartbeat"),
        (layout.export_dir(RUN, "hf"), "/w/runs/r/export/hf"),
    ],
    ids=lambda value: "" if isinstance(value, Path) else value.removeprefix("/w/"),
)
def test_runs_of_every_version_and_their_scripts_have_their_files_at_these_places(
    path: Path, expected: str
) -> None:
    """A job's shell has the same paths in its text, and a run of an older version has its files there."""
    assert str(path) == expected


@pytest.mark.parametrize(
    ("of", "training", "step"),
    [
        (layout.record_file, "run.json", "run.eval.json"),
        (layout.script_file, "script", "script.eval"),
        (layout.code_dir, "code", "code.eval"),
        (layout.stop_file, "STOP", "STOP.eval"),
    ],
)
def test_a_step_that_reads_the_checkpoint_takes_no_file_of_the_training(
    of: Callable[..., Path], training: str, step: str
) -> None:
    assert (of(RUN), of(RUN, "eval")) == (RUN / training, RUN / step)

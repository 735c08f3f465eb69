"""``jobctl cancel`` and ``jobctl resume``: gently where a checkpoint can be kept, at once elsewhere."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from jobctl.jobs.runs import store as runs
from tests.jobs.cli.test_cli import Invoke, jobctl, payload

__all__ = ["jobctl", "payload"]

Payload = Callable[[str], str]
TOKENIZER = ("submit", "tokenizer", "--tokenizer", "gpt2", "--run", "t")


def test_an_ended_run_is_not_cancelled(jobctl: Invoke, root: Path, payload: Payload) -> None:
    assert jobctl(*TOKENIZER, "--wait", payload("true"))[0] == 0
    code, _, err = jobctl("cancel", "t")
    assert code == 1
    assert "run 't' is finished already" in err


def test_a_finished_run_is_not_resumed(jobctl: Invoke, root: Path, payload: Payload) -> None:
    assert jobctl(*TOKENIZER, "--wait", payload("true"))[0] == 0
    code, _, err = jobctl("resume", "t")
    assert code == 1
    assert "run 't' has finished: nothing to resume" in err


def test_a_failed_run_is_resumed_and_says_its_job(jobctl: Invoke, root: Path, payload: Payload) -> None:
    assert jobctl(*TOKENIZER, "--wait", payload('[ "$ATTEMPT" -ge 2 ] || exit 3'))[0] == 3
    code, out, _ = jobctl("resume", "t", "--json")
    assert code == 0
    assert set(json.loads(out)) == {"run", "job_id"}
    assert jobctl("wait", "t")[0] == 0
    assert [attempt.exit_code for attempt in runs.read(root, "t").attempts] == [3, 0]


@pytest.mark.parametrize("code", [0, 4])
def test_a_resumed_run_is_followed_to_its_end_where_asked(
    jobctl: Invoke, root: Path, payload: Payload, code: int
) -> None:
    body = f'[ "$ATTEMPT" -ge 2 ] || exit 3; exit {code}'
    assert jobctl(*TOKENIZER, "--wait", payload(body))[0] == 3
    assert jobctl("resume", "t", "--wait")[0] == code
    assert [attempt.exit_code for attempt in runs.read(root, "t").attempts] == [3, code]


TRAINING = ("submit", "--model", "qwen3_smoke", "--target", "local", "--run", "t")


def submit_training(jobctl: Invoke, root: Path, payload: Payload, body: str) -> int:
    """Submit a training whose payload keeps its words in the run directory, and wait for its end."""
    dataset = root / "datasets/sotu-gpt2"
    dataset.mkdir(parents=True)
    (dataset / "meta.json").write_text('{"vocab_size": 50257}')
    keep = 'printf "%s\\n" "$@" >"$RUN_DIR/words.$ATTEMPT"; '
    return jobctl(*TRAINING, "--wait", payload(keep + body))[0]


def test_an_edit_is_recorded_and_carried_by_later_attempts(
    jobctl: Invoke, root: Path, payload: Payload
) -> None:
    assert submit_training(jobctl, root, payload, '[ "$ATTEMPT" -ge 3 ] || exit 200') == 200
    record = json.loads((root / "runs/t/run.json").read_text())
    assert jobctl("resume", "t", "--set", "learning_rate=2e-3", "--set", "log_interval=1", "--wait")[0] == 200
    assert jobctl("resume", "t", "--wait")[0] == 0

    words = [(root / f"runs/t/words.{attempt}").read_text().splitlines() for attempt in (1, 2, 3)]
    for later in words[1:]:
        assert {"--learning_rate=0.002", "--log_interval=1", "--allow_changes=learning_rate"} <= {*later}
    assert not [word for word in words[0] if word.startswith("--allow_changes")]

    after = json.loads((root / "runs/t/run.json").read_text())
    (edit,) = after.pop("edits")
    assert after == record
    assert edit["settings"] == {"learning_rate": 2e-3, "log_interval": 1}
    assert edit["after_attempt"] == 1
    assert "after attempt 1: learning_rate=0.002, log_interval=1" in jobctl("describe", "t")[1]


def test_a_refused_edit_changes_nothing(jobctl: Invoke, root: Path, payload: Payload) -> None:
    assert submit_training(jobctl, root, payload, "exit 200") == 200
    before = (root / "runs/t/run.json").read_text()
    code, _, err = jobctl("resume", "t", "--set", "hidden_size=128")
    assert code == 2
    assert "--init_from=run:t" in err
    assert (root / "runs/t/run.json").read_text() == before
    assert len(runs.read(root, "t").attempts) == 1


def test_a_finished_training_goes_on_where_it_is_made_longer(
    jobctl: Invoke, root: Path, payload: Payload
) -> None:
    assert submit_training(jobctl, root, payload, "exit 0") == 0
    code, _, err = jobctl("resume", "t", "--set", "learning_rate=2e-3")
    assert code == 1
    assert "jobctl resume t --set max_iters=N" in err
    assert jobctl("resume", "t", "--set", "max_iters=200", "--wait")[0] == 0
    assert len(runs.read(root, "t").attempts) == 2


@pytest.mark.parametrize("graceful", [True, False])
def test_a_job_without_checkpoints_is_ended_at_once(
    jobctl: Invoke, root: Path, payload: Payload, graceful: bool
) -> None:
    assert jobctl(*TOKENIZER, payload('touch "$RUN_DIR/begun"; sleep 60'))[0] == 0
    while not (root / "runs/t/begun").exists():
        time.sleep(0.02)
    words = ("--graceful",) if graceful else ()
    code, out, _ = jobctl("cancel", "t", *words, "--json")
    assert code == 0
    assert json.loads(out) == {"run": "t", "graceful": False}
    assert runs.recorded_status(runs.read(root, "t")).state == "cancelled"

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

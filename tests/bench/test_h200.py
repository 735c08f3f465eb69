import json
import sys
import time

import pytest

from bench import fresh, h200
from jobctl.jobs.catalog.arithmetic import flops_per_token
from jobctl.jobs.catalog.loader import load_model


def test_the_batch_is_the_catalogues_unless_the_user_says_otherwise() -> None:
    base = ["--data", "t", "-o", "o", "--models", "qwen3_1.8b", "--only", "ours", "ours-fp8"]
    ours, narrow = h200.jobs(h200.parse([*base, "--other-steps", "4"]))
    assert (ours["batch"], ours["accumulation"]) == h200.catalogue_batch("qwen3_1.8b")
    assert (ours["steps"], narrow["steps"]) == (20, 4)
    asked = h200.parse([*base[:-2], "ours-plain", "ours-eager", "ours", "nanogpt"])
    assert [job["entrant"] for job in h200.jobs(asked)] == ["ours", "ours-plain", "ours-eager"]
    assert not set(h200.OUR_PLAIN) & set(h200.entrants_for("qwen3_1.8b", None))
    assert h200.jobs(h200.parse([*base, "--batch", "2", "--accumulation", "3"]))[0]["batch"] == 2


def test_rate_and_mfu_come_from_the_median_step() -> None:
    result = {"model": "qwen3_1.8b", "batch": 16, "accumulation": 2, "block": 2048, "step_ms": 1000.0}
    found = h200.figures(result)
    assert found["tokens_per_second"] == 65536
    assert found["mfu"] == pytest.approx(
        65536 * flops_per_token(load_model("qwen3_1.8b").config, 2048) / 989e12, abs=1e-4
    )
    assert "mfu" not in h200.figures({"error": "none"})


CHILD = "import json, sys; job = json.loads(sys.stdin.readline() or 'null'); job and print('{}')".format(
    "noise\\n' + json.dumps(job | {'step_ms': 1}) + '"
)


def test_each_job_gets_a_process_of_its_own_and_its_last_line_is_the_result(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import subprocess

    pipe = subprocess.PIPE
    started = []

    def start() -> "subprocess.Popen[str]":
        command = [sys.executable, "-c", CHILD]
        started.append(subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True))
        return started[-1]

    monkeypatch.setattr(fresh.FreshProcesses, "start", staticmethod(start))
    with fresh.FreshProcesses() as processes:
        results = [processes.run({"batch": n}, time.monotonic() + 60) for n in (1, 2)]
    assert [r["batch"] for r in results] == [1, 2]
    assert all(r["step_ms"] == 1 for r in results)
    assert len({p.pid for p in started}) == 3
    assert all(p.returncode is not None for p in started)
    assert json.dumps(results)


def test_what_does_not_fit_is_tried_with_half_the_batch_and_what_has_no_time_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Full:
        def __enter__(self) -> "Full":
            return self

        def __exit__(self, *_: object) -> None: ...

        def run(self, job: dict[str, object], deadline: float) -> dict[str, object]:
            return job | ({"error": "OutOfMemoryError"} if job["batch"] == 16 else {"step_ms": 1})

    monkeypatch.setattr(h200, "FreshProcesses", Full)
    work = [{"batch": 16, "accumulation": 2}, {"batch": 8, "accumulation": 2}]
    found = list(h200.run(work, time.monotonic() + 60))
    assert [(r["batch"], r["accumulation"], r.get("error", "")) for r in found] == [
        (16, 2, "OutOfMemoryError"),
        (8, 4, ""),
        (8, 2, ""),
    ]
    late = list(h200.run(work, time.monotonic() - 1))
    assert [r["error"] for r in late] == [fresh.NO_TIME] * 2


@pytest.mark.parametrize(
    ("errors", "words"),
    [
        ("Traceback:\n  File 'x'\nRuntimeError: no driver\n", "RuntimeError: no driver"),
        (
            "[rank1]: torch.OutOfMemoryError: out of memory\n"
            "torch.distributed.elastic.multiprocessing.errors.ChildFailedError: \n====\nexitcode: 1\n",
            "torch.OutOfMemoryError: out of memory",
        ),
        ("x" * 400 + "Killed\n", "x" * 294 + "Killed"),
    ],
)
def test_what_broke_off_is_told_by_its_exception_or_its_last_words(errors: str, words: str) -> None:
    assert fresh.last_words(errors) == words

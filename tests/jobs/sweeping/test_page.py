"""The end of a sweep: a table, a plot, and settings to paste."""

from __future__ import annotations

import json

import yaml

from jobctl.jobs.sweeping.page import facts, fastest, is_done, page, plot, snippet, table
from jobctl.jobs.sweeping.plan import Arm, Outcome, Plan, Purpose, Status, Trial

PLAN = Plan(
    arms=(
        Arm(name="sharding=zero1", settings={"use_zero1": True}, batch_sizes=(4, 8)),
        Arm(name="sharding=fsdp", settings={"use_fsdp": True}, batch_sizes=(4, 8)),
        Arm(name="tier=4", problem="use_fp8: a6000 has no float8 arithmetic"),
    ),
    sequences=16,
)


def outcome(
    arm: int,
    size: int,
    status: Status = "fits",
    rate: float | None = None,
    purpose: Purpose = "time",
    reason: str = "",
) -> Outcome:
    return Outcome(
        trial=Trial(arm=arm, batch_size=size, purpose=purpose),
        attempt=1,
        status=status,
        reason=reason,
        gradient_accumulation_steps=16 // size,
        tokens_per_second=rate,
        memory_peak_gb=40.0,
        step_ms=120.5,
        mfu=0.31 if rate else None,
    )


ALL = [
    outcome(0, 4, rate=1000.0),
    outcome(0, 8, "memory", reason="CUDA out of memory"),
    outcome(1, 4, "failed", reason="NCCL error"),
    outcome(1, 8, rate=2000.0),
]


def test_the_table_has_a_line_an_arm() -> None:
    lines = table(PLAN, ALL).splitlines()
    assert len(lines) == 4
    assert lines[1].split() == [
        *("sharding=zero1", "4", "4", "×", "4", "1,000", "31.0%", "40.00", "120.5"),
        *("out", "of", "memory", "at", "8"),
    ]
    assert lines[2].endswith("4 failed: NCCL error")
    assert lines[3].endswith("impossible: use_fp8: a6000 has no float8 arithmetic")


def test_the_plot_has_the_fastest_first_and_longest() -> None:
    first, second = plot(PLAN, ALL).splitlines()[1:]
    assert first.startswith("sharding=fsdp batch_size=8")
    assert (first.count("█"), second.count("█")) == (40, 20)


def test_the_snippet_is_yaml_of_the_fastest() -> None:
    best = fastest(ALL)
    assert best is not None
    text = snippet(PLAN, best, 2)
    yaml_part, command = text.split("\n\n")
    assert yaml.safe_load(yaml_part) == {
        "settings": {"use_fsdp": True, "batch_size": 8, "gradient_accumulation_steps": 2}
    }
    assert "32 sequences a step" in yaml_part
    assert command.endswith("--set use_fsdp=true --set batch_size=8 --set gradient_accumulation_steps=2")


def test_a_sweep_that_goes_on_says_so() -> None:
    assert is_done(PLAN, ALL)
    assert "not ended" not in page(PLAN, ALL, 2)
    assert not is_done(PLAN, ALL[:3])
    shown = page(PLAN, ALL[:3], 2)
    assert "not done yet" in shown
    assert "some trials have not run yet" in shown


def test_a_sweep_without_a_measurement_has_no_snippet() -> None:
    assert "nothing was measured" in page(PLAN, [], 2)
    assert plot(PLAN, []) == ""


def test_facts_are_json_of_each_trial() -> None:
    told = facts(PLAN, ALL)
    assert told["fastest"] == {"use_fsdp": True, "batch_size": 8, "gradient_accumulation_steps": 2}
    assert [arm["largest_batch_size"] for arm in told["arms"]] == [4, 8, None]
    assert [len(arm["outcomes"]) for arm in told["arms"]] == [2, 2, 0]
    assert json.dumps(told["arms"][2]["problem"])

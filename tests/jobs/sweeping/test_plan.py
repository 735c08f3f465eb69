"""What the trainer of a trial is told."""

from __future__ import annotations

import msgspec
import pytest

from jobctl.jobs.sweeping.plan import Arm, Plan, Purpose, Trial, fixed_sizes, flags, micro_steps

PLAN = Plan(arms=(Arm(name="a", settings={"use_fsdp": True}),), sequences=48, interval=2)


def trial(purpose: Purpose, size: int = 8) -> Trial:
    return Trial(arm=0, batch_size=size, purpose=purpose)


def test_a_timed_trial_has_the_whole_batch() -> None:
    told = flags(PLAN, trial("time"), 32)
    expected = {
        "--trial=true",
        "--use_fsdp=True",
        "--batch_size=8",
        "--gradient_accumulation_steps=6",
        "--max_iters=6",
        "--log_interval=2",
        "--init_from=scratch",
    }
    assert expected <= set(told)


def test_a_trial_that_only_looks_whether_it_fits_is_short() -> None:
    told = flags(PLAN, trial("fit", 31), 32)
    assert {"--batch_size=31", "--gradient_accumulation_steps=2", "--max_iters=2"} <= set(told)


@pytest.mark.parametrize(("sequences", "steps"), [(0, 32), (48, 6)])
def test_the_batch_of_a_step_is_the_plans_where_it_has_one(sequences: int, steps: int) -> None:
    plan = msgspec.structs.replace(PLAN, sequences=sequences)
    assert micro_steps(plan, trial("time"), 32) == steps


def test_the_guides_sweep_is_an_arm_a_size_with_the_settings_as_they_are() -> None:
    plan = fixed_sizes((8, 12))
    assert [(arm.name, arm.batch_sizes) for arm in plan.arms] == [
        ("batch_size=8", (8,)),
        ("batch_size=12", (12,)),
    ]
    assert (plan.tasks, plan.sequences) == (2, 0)


def test_a_sweep_that_is_one_job_has_no_tasks() -> None:
    assert PLAN.tasks == 0


def test_a_plan_survives_the_way_into_a_script() -> None:
    assert msgspec.json.decode(msgspec.json.encode(PLAN), type=Plan) == PLAN

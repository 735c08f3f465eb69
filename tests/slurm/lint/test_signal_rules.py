"""Mistakes around the end of a job."""

from __future__ import annotations

import pytest

from jobctl.slurm.lint import lint
from tests.slurm.lint.good import GOOD, changed, found

NO_WAIT = ("train.py &\nwait\nwait\n", "train.py\n")


@pytest.mark.parametrize(
    ("before", "after", "rule", "severity"),
    [
        ("--signal=B:", "--signal=", "signal-to-steps", "error"),
        ("trap 'touch STOP' USR2\n", "", "signal-untrapped", "error"),
        (*NO_WAIT, "trap-behind-command", "error"),
        ("wait\nwait\n", "wait\n", "waited-once", "warning"),
        ("'touch STOP'", "'scontrol requeue $SLURM_JOB_ID'", "requeue-in-trap", "warning"),
        ("#SBATCH --requeue\n", "#SBATCH --no-requeue\n", "requeue-refused", "error"),
        ("#SBATCH --open-mode=append\n", "", "log-overwritten", "hint"),
        ("#SBATCH --signal=B:USR2@300\n", "", "no-signal", "hint"),
    ],
)
def test_one_mistake_is_one_finding(before: str, after: str, rule: str, severity: str) -> None:
    assert found(changed(before, after)).get(rule) == severity


@pytest.mark.parametrize("command", ["python train.py", "torchrun train.py", "X=1 ./run", "time mpirun ./x"])
def test_a_trap_waits_for_any_command_in_the_foreground(command: str) -> None:
    script = changed(*NO_WAIT).replace("srun --kill-on-bad-exit=1 torchrun", f"{command} #")
    (finding,) = [finding for finding in lint(script) if finding.rule == "trap-behind-command"]
    assert finding.line == 17
    assert "trap-behind-command" not in found(script.replace(f"{command} #", f"{command} & wait #"))


@pytest.mark.parametrize("name", ["USR2", "SIGUSR2", "12"])
def test_a_signal_has_several_names(name: str) -> None:
    assert found(changed("B:USR2@", f"B:{name}@")) == {}
    assert found(changed("' USR2", f"' {name}")) == {}


def test_a_requeue_through_a_function_is_seen() -> None:
    function = "again() {\n  echo again\n  scontrol requeue $SLURM_JOB_ID\n}\ntrap again USR2"
    assert found(changed("trap 'touch STOP' USR2", function)) == {"requeue-in-trap": "warning"}
    patient = function.replace("echo again", "kill -USR1 $PID; wait $PID")
    assert found(changed("trap 'touch STOP' USR2", patient)) == {}


@pytest.mark.parametrize(
    "after",
    [
        "",
        "#SBATCH --signal=USR1@60\n",
        "#SBATCH --signal=R:USR1@60\n",
    ],
)
def test_a_program_may_handle_the_signal_itself(after: str) -> None:
    """Lightning does. Without a trap in the script there is nothing that the signal should reach."""
    script = changed("trap 'touch STOP' USR2\n", "").replace("#SBATCH --signal=B:USR2@300\n", after)
    assert set(found(script)) <= {"no-signal"}


def test_a_program_that_takes_the_shells_place_gets_its_signal() -> None:
    script = (
        changed("trap 'touch STOP' USR2\n", "")
        .replace("srun ", "exec srun ")
        .replace("train.py &", "train.py")
    )
    assert found(script) == {}


@pytest.mark.parametrize(
    ("time", "hints"), [("30", 0), ("4:00:00", 0), ("12:00:00", 1), ("1-0", 1), ("720", 1)]
)
def test_only_a_long_training_needs_a_warning(time: str, hints: int) -> None:
    script = GOOD.replace("#SBATCH --signal=B:USR2@300\n", "").replace("1-00:00:00", time)
    assert len([finding for finding in lint(script) if finding.rule == "no-signal"]) == hints

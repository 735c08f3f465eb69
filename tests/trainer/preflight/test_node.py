"""What a node says of itself, from the words of its driver and its kernel."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from jobctl.jobs.core.driver import DriverSilent
from jobctl.trainer.preflight import node
from jobctl.trainer.preflight.node import (
    ask_driver,
    kernel_log,
    look,
    parse_available,
    parse_gpus,
    parse_xids,
)

H100 = "0, NVIDIA H100 80GB HBM3, 570.86.15, 81559, 4, 9.0, {errors}, {pending}, {failed}\n"


def test_a_gpu_with_its_health() -> None:
    (gpu,) = parse_gpus([H100.format(errors=2, pending="No", failed="Yes")])
    assert (gpu.index, gpu.name, gpu.driver) == (0, "NVIDIA H100 80GB HBM3", "570.86.15")
    assert (gpu.memory_mib, gpu.used_mib, gpu.compute_capability) == (81559, 4, "9.0")
    assert (gpu.uncorrected_errors, gpu.remapping_pending, gpu.remapping_failed) == (2, False, True)


def test_what_a_driver_does_not_know_is_not_held_against_it() -> None:
    """A6000s have no ECC by default, and old drivers no remapped rows."""
    (gpu,) = parse_gpus([H100.format(errors="[N/A]", pending="[N/A]", failed="[Not Supported]")])
    assert (gpu.uncorrected_errors, gpu.remapping_pending, gpu.remapping_failed) == (None, False, False)
    (old,) = parse_gpus(["3, NVIDIA RTX A6000, 470.57, 49140, 0"])
    assert (old.index, old.compute_capability, old.uncorrected_errors) == (3, "", None)


def test_a_line_that_is_not_of_a_gpu_is_not_passed_over() -> None:
    lost = "Unable to determine the device handle for GPU0000:3B:00.0: GPU is lost. Reboot the system"
    with pytest.raises(DriverSilent, match="GPU is lost"):
        parse_gpus([H100, lost])


@pytest.mark.parametrize(
    ("script", "gpus", "unanswered"),
    [
        ('case $1 in *ecc*) exit 2 ;; *) echo "0, NVIDIA A100-SXM4-80GB, 450.80, 81559, 0" ;; esac', 1, ""),
        (
            'echo "NVIDIA-SMI has failed"; exit 9',
            0,
            "nvidia-smi failed with exit code 9: NVIDIA-SMI has failed",
        ),
        ('echo "GPU is lost"', 0, "nvidia-smi answers 'GPU is lost'"),
    ],
)
def test_the_driver_is_asked_as_far_as_it_answers(
    program: Callable[[str, str], None], script: str, gpus: int, unanswered: str
) -> None:
    program("nvidia-smi", script)
    found, reason = ask_driver()
    assert (len(found), reason) == (gpus, unanswered)


def test_a_kernel_log_that_may_not_be_read_is_not_an_empty_one(program: Callable[[str, str], None]) -> None:
    program("dmesg", "exit 1")
    assert kernel_log() is None
    program("dmesg", "exit 0")
    assert kernel_log() == ""


def test_xids_that_only_a_broken_gpu_makes() -> None:
    log = (
        "[  100.5] NVRM: Xid (PCI:0000:3b:00): 79, GPU has fallen off the bus.\n"
        "[90100.1] NVRM: Xid (PCI:0000:3b:00): 79, GPU has fallen off the bus.\n"
        "[90200.1] NVRM: Xid (PCI:0000:86:00): 13, Graphics Exception\n"
        "[90300.1] NVRM: Xid (PCI:0000:86:00): 48, pid=1, DBE\n"
    )
    assert parse_xids(log, uptime=90400) == ("Xid 48 on PCI:0000:86:00", "Xid 79 on PCI:0000:3b:00")
    assert parse_xids(log, uptime=90400 + node.XID_SECONDS) == ()


def test_available_memory() -> None:
    assert parse_available("MemTotal: 9 kB\nMemAvailable:    3145728 kB\n") == 3.0
    assert parse_available("") == 0.0


def test_this_machine_says_something_of_everything(tmp_path: Path) -> None:
    mine = look("here", tmp_path, 12.0)
    assert (mine.name, mine.clock) == ("here", 12.0)
    assert min(mine.memory_gib, mine.shm_gib, mine.tmp_gib, mine.root_gib) > 0


def test_a_temporary_folder_that_only_the_submitter_has_is_not_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slurm hands $TMPDIR on to nodes and containers that have no such folder."""
    monkeypatch.setenv("TMPDIR", str(tmp_path / "of another machine"))
    monkeypatch.setattr(tempfile, "tempdir", None)  # what this process has chosen before
    assert look("here", tmp_path, 12.0).tmp_gib > 0

"""The words of Slurm's failures: which of them pass by themselves."""

from __future__ import annotations

import pytest

from jobctl.slurm.client import Slurm, SlurmRefused
from jobctl.slurm.failures import may_have_arrived, passes, without_repetitions

NO_DATABASE_NOW = (
    "sbatch: error: Problem talking to database\n"
    "sbatch: error: There is a problem talking to the database: {reason}.  Only local cluster communication is "
    "available, remove --cluster from your command line or contact your admin to resolve the problem."
)


@pytest.mark.parametrize("reason", ["Connection refused", "Connection timed out", "No route to host"])
def test_a_database_that_cannot_be_reached_now_passes(reason: str) -> None:
    answer = NO_DATABASE_NOW.format(reason=reason)
    assert passes(answer)
    assert not may_have_arrived(answer)


def test_a_cluster_that_the_database_does_not_know_does_not_pass() -> None:
    unknown = (
        "sbatch: error: No cluster 'nope' known by database.\n"
        "sbatch: error: 'nope' can't be reached now, or it is an invalid entry for --cluster."
    )
    assert not passes(unknown)


def test_a_refusal_after_slurm_s_own_retries_does_not_pass() -> None:
    """sbatch tries again by itself, and prints the reason of each try before the result."""
    retried = "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying\n"
    assert passes(retried + "sbatch: error: Batch job submission failed: Resource temporarily unavailable")
    assert not passes(
        retried + "sbatch: error: Batch job submission failed: Invalid partition name specified"
    )


def test_a_missing_configuration_does_not_pass_though_slurm_waits_for_it() -> None:
    """Slurm looks for the file for a minute, which is also the time limit of a command."""
    waits = (
        "squeue: error: s_p_parse_file: cannot stat file /etc/none.conf: No such file or directory, retrying"
    )
    assert not passes(f"{waits}\nsocket timed out: no answer in 60 s")


def test_a_command_that_waits_without_end_says_what_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("bin")
    (folder / "squeue").write_text(
        "#!/bin/bash\necho 'squeue: error: cannot stat file /none' >&2\nexec sleep 600\n"
    )
    (folder / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    client = Slurm(timeout=0.5, sleep=lambda seconds: pytest.fail("asks again"))
    with pytest.raises(SlurmRefused, match="cannot stat file /none") as refused:
        client.queue()

    assert "SLURM_CONF" in refused.value.hint


def test_a_controller_without_an_address_is_said_once() -> None:
    """Slurm prints a line for each of ten tries to look the name up."""
    line = "get_addr_info: getaddrinfo() failed: Name or service not known"
    tries = [f"{line}: No error, attempt number {number}" for number in range(-4, 6)]
    assert without_repetitions([*tries, line, 'Unable to resolve "head"', line]) == [
        line,
        'Unable to resolve "head"',
    ]

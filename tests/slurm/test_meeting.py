"""The port at which torchrun's nodes meet: free, and none that Linux may give to a connection meanwhile."""

from __future__ import annotations

import os
import socket
import subprocess

import pytest

from jobctl.jobs.render import shell_functions
from tests.slurm.test_shell import shell

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="a network namespace of its own needs root")


def port(command: str, *, job: int = 5, chosen: int = 0) -> str:
    return shell(f"SLURM_JOB_ID={job}; JOB_MASTER_PORT={chosen}; {command}")


def port_in_namespace(ephemeral: str, *, job: int = 5, chosen: int = 0) -> tuple[int, str]:
    """Port and errors where Linux gives connections the ports ``ephemeral``, in a namespace of its own."""
    text = (
        f"set -euo pipefail\necho '{ephemeral}' >/proc/sys/net/ipv4/ip_local_port_range\n"
        f"{shell_functions('slurm/meeting')}\nSLURM_JOB_ID={job}; JOB_MASTER_PORT={chosen}; meeting_port 0"
    )
    done = subprocess.run(
        ["unshare", "--net", "bash", "-c", text], capture_output=True, text=True, check=True
    )
    return int(done.stdout), done.stderr


def test_a_port_that_is_in_use_is_passed_over() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        taken = server.getsockname()[1]
        assert int(shell(f"free_port {taken} 65535 0")) > taken
        assert shell(f"free_port {taken} {taken} 0 || echo none") == "none"
    assert shell("free_port 20 29 19") == "29"


def test_two_meetings_of_one_job_have_different_ports() -> None:
    assert port("meeting_port 0") != port("meeting_port 1")
    assert port("meeting_port 0", chosen=1025) != port("meeting_port 1", chosen=1025)


@needs_root
@pytest.mark.parametrize(
    ("ephemeral", "job", "first", "last"),
    [
        ("32768 60999", 5, 20005, 20005),
        ("15000 61000", 7, 1024, 14999),
        ("1024 60000", 10**6, 60001, 65535),
    ],
)
def test_a_port_is_outside_those_of_connections(ephemeral: str, job: int, first: int, last: int) -> None:
    number, errors = port_in_namespace(ephemeral, job=job)
    assert first <= number <= last
    assert errors == ""


@needs_root
def test_where_connections_have_all_ports_it_is_said() -> None:
    number, errors = port_in_namespace("1024 65535")
    assert number == 20005
    assert (
        "Linux gives almost all ports to connections here (1024 to 65535); choose one with master_port"
        in errors
    )


@needs_root
def test_a_chosen_port_is_taken_and_what_is_wrong_with_it_said() -> None:
    assert port_in_namespace("32768 60999", chosen=29500) == (29500, "")
    number, errors = port_in_namespace("32768 60999", chosen=40000)
    assert number == 40000
    assert "master_port 40000 is in the range that Linux gives to connections here" in errors

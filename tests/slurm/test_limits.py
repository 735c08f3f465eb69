"""How many files a job may open, and how much of it a crash may leave on disk."""

from __future__ import annotations

import subprocess

import pytest

from jobctl.jobs.render import shell_functions
from tests.slurm.conftest import Submitter


def limited(before: str, files: int | str = 65536, core: int | str = 0) -> tuple[list[str], str]:
    """Soft limits of files and cores, after ``before`` and ``set_limits``; and what was said."""
    text = (
        f"set -euo pipefail\n{shell_functions('slurm/limits')}\n{before}\n"
        f"JOB_OPEN_FILES={files}; JOB_CORE_KIB={core}; NODE=n1; set_limits; "
        "ulimit -S -n; ulimit -S -c; echo $JOB_OPEN_FILES $JOB_CORE_KIB"
    )
    done = subprocess.run(["bash", "-c", text], capture_output=True, text=True, check=True)
    return done.stdout.split(), done.stderr


def test_the_limits_are_those_of_the_site() -> None:
    values, said = limited("ulimit -n 4096; ulimit -S -n 256; ulimit -S -c 0", files=1024, core=2048)
    assert values == ["1024", "2048", "1024", "2048"]
    assert said == ""


def test_a_core_file_is_cut_off_at_nothing_by_default() -> None:
    values, _ = limited("ulimit -S -c unlimited", files=0)
    assert values[1] == "0"


@pytest.mark.parametrize("files", [0, 100])
def test_a_limit_that_is_higher_already_stays(files: int) -> None:
    values, said = limited("ulimit -n 512", files=files)
    assert values[0] == "512"
    assert said == ""


def test_a_node_that_allows_less_says_so_and_the_job_goes_on() -> None:
    values, said = limited("ulimit -n 300; ulimit -c 100", core="unlimited")
    assert values == ["300", "100", "300", "100"]
    assert said.splitlines() == [
        "jobctl: n1: a process may open 300 files, fewer than slurm.open_files (65536); see ulimit -H -n",
        "jobctl: n1: a core file may have 100 KiB, less than slurm.core_file_mib asks for; see ulimit -H -c",
    ]


def test_a_second_node_like_the_first_is_silent() -> None:
    first = "ulimit -n 300; NODE=n0; JOB_OPEN_FILES=65536; JOB_CORE_KIB=0; set_limits"
    _, said = limited(first, files="$JOB_OPEN_FILES")
    assert len(said.splitlines()) == 1


def test_the_trainer_has_the_limits_on_every_node_of_a_real_cluster(slurm_runs: Submitter) -> None:
    sets = {"slurm.open_files": 777, "slurm.core_file_mib": 3}
    slurm_runs.submit("limited", 'echo "limits $(ulimit -S -c) $(($(ulimit -S -n) >= 777))"', **sets)
    slurm_runs.wait("limited", "finished")
    assert any("limits 3072 1" in line for line in slurm_runs.log("limited"))

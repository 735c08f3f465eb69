"""Any option of sbatch and srun can be given, quoted like the rest; what jobctl needs for itself is refused."""

from __future__ import annotations

import subprocess

import pytest

from jobctl.jobs.core.errors import UserError
from jobctl.slurm.options import added, as_words
from jobctl.slurm.script import options_of, render
from tests.clusters.slurm import SlurmCluster
from tests.slurm.test_script import GPU, container_words, spec_of

HOSTILE = "a b;$(touch /tmp/owned)`id`'\"\\|#x"


def test_an_option_is_added_or_takes_the_place_of_ours() -> None:
    spec = spec_of(
        "slurm.options={hint: nomultithread, switches: '1@10:00', nice: 100, contiguous: true, exclusive: user}",
        "slurm.options.requeue-x=1",
        "slurm.options.kill-on-invalid-dep=false",
    )
    options = options_of(spec)
    assert (options["hint"], options["nice"], options["contiguous"]) == ("nomultithread", 100, True)
    assert (options["exclusive"], options["kill-on-invalid-dep"]) == ("user", False)
    script = render(spec)
    assert "#SBATCH --switches=1@10:00\n" in script
    assert "#SBATCH --contiguous\n" in script
    assert "#SBATCH --kill-on-invalid-dep" not in script


def test_memory_by_cpu_or_gpu_takes_the_place_of_memory_by_node() -> None:
    assert options_of(spec_of(**GPU))["mem"] == "0"
    options = options_of(spec_of("slurm.options.mem-per-gpu=100G", **GPU))
    assert (options["mem"], options["mem-per-gpu"]) == (None, "100G")


@pytest.mark.parametrize("name", ["job-name", "output", "dependency", "nodes", "signal", "export", "array"])
def test_an_option_that_jobctl_needs_is_refused_with_the_way_to_go(name: str) -> None:
    with pytest.raises(UserError, match=f"slurm.options: --{name} is jobctl's own") as error:
        render(spec_of(f"slurm.options.{name}=x"))
    assert error.value.hint


@pytest.mark.parametrize("name", ["Hint", "-n", "a b", "x;y"])
def test_what_is_no_option_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="is not the long name of an option"):
        added({}, {name: "x"}, "slurm.options")


def test_dashes_may_be_written() -> None:
    assert added({}, {"--hint": "compute_bound"}, "slurm.srun_options") == {"hint": "compute_bound"}
    assert as_words({"a": True, "b": False, "c": None, "d": "", "e": 0}) == ["--a", "--e=0"]


def test_srun_has_options_of_its_own_and_ours_can_be_changed() -> None:
    words = container_words(
        spec_of(
            "slurm.srun_options={wait: 300, gpu-bind: none, mpi: pmix, cpu-bind: cores, unbuffered: true}"
        )
    )
    assert "--wait=300" in words
    assert "--wait=60" not in words
    assert "--cpu-bind=cores" in words
    assert "--gpu-bind=none --mpi=pmix --unbuffered" in words
    with pytest.raises(UserError, match=r"slurm\.srun_options: --nodelist is jobctl's own"):
        render(spec_of("slurm.srun_options.nodelist=n1"))


def test_a_hostile_value_stays_a_value() -> None:
    script = render(spec_of(f"slurm.srun_options.network={HOSTILE}", f"slurm.options.wckey={HOSTILE}"))
    data = script[script.index("JOB_SRUN_OPTIONS=(") : script.index("CONTAINER_COMMAND=(")]
    show = 'printf "%s\\n" "${JOB_SRUN_OPTIONS[@]}"'
    shown = subprocess.run(["bash", "-c", data + show], capture_output=True, text=True, check=True).stdout
    assert f"--network={HOSTILE}" in shown.splitlines()


def test_sbatch_reads_what_was_meant(slurm_cluster: SlurmCluster) -> None:
    spec = spec_of(
        f"slurm.options.network={HOSTILE}",
        "slurm.options={begin: now+1hour, nice: 100, mem-per-cpu: 77, licenses: false, hint: nomultithread}",
        "slurm.exclusive=false",
    )
    job = slurm_cluster.run("sbatch", "--parsable", "--output=/dev/null", stdin=render(spec))
    facts = slurm_cluster.run("scontrol", "--oneliner", "show", "job", job)
    assert "Nice=100" in facts
    assert "MinMemoryCPU=77M" in facts
    assert "Reason=BeginTime" in facts
    assert HOSTILE in facts

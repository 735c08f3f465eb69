"""Every key of ``slurm:`` reaches the script."""

from __future__ import annotations

from jobctl.jobs.catalog.schema import KEYS, SlurmSection
from jobctl.jobs.spec.resolution import Choices, resolve
from jobctl.jobs.targets.registry import load_target
from tests.jobs.catalog.schema.settings import keys_without_effect

VALUES = {
    "slurm.cluster": "annex",
    "slurm.partition": "gpu",
    "slurm.account": "nlp",
    "slurm.qos": "long",
    "slurm.reservation": "ours",
    "slurm.constraint": "ib",
    "slurm.mail_user": "me@example.org",
    "slurm.mail_type": "ALL",
    "slurm.comment": "for the paper",
    "slurm.gpu_request": "gres",
    "slurm.gpu_type": "h200",
    "slurm.spare_nodes": 1,
    "slurm.interface": "ib0",
    "slurm.open_files": 1000,
    "slurm.core_file_mib": -1,
    "slurm.exclusive": False,
    "slurm.memory": "10G",
    "slurm.options": {"nice": "100"},
    "slurm.srun_options": {"mpi": "none"},
}
OF_OTHER_JOBS = {"slurm.cpu_partition"}


def test_each_key_changes_the_script() -> None:
    beside = {"slurm.mail_user": "you@example.org"}
    assert keys_without_effect("slurm", VALUES, beside) == []


def test_no_key_is_forgotten_here() -> None:
    keys = {key for key, kind in KEYS.items() if kind is SlurmSection}
    assert keys == set(VALUES) | OF_OTHER_JOBS


def test_a_job_without_gpus_has_a_partition_of_its_own() -> None:
    sets = ("slurm.partition=gpu", "slurm.cpu_partition=cpu")
    choices = [Choices(kind="prep", target="slurm", sets=sets[:count]) for count in (1, 2)]
    scripts = [load_target("slurm").render(resolve(one, version="1", root="/r").spec) for one in choices]
    assert "#SBATCH --partition=gpu\n" in scripts[0]
    assert "#SBATCH --partition=cpu\n" in scripts[1]

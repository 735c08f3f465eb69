"""A script in which there is nothing to find, and what lint says of changes to it."""

from __future__ import annotations

from jobctl.slurm.lint import lint

GOOD = """#!/bin/bash
#SBATCH --job-name=x
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --time=1-00:00:00
#SBATCH --cpus-per-task=8
#SBATCH --signal=B:USR2@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --dependency=afterok:1
#SBATCH --kill-on-invalid-dep=yes

trap 'touch STOP' USR2
module load cuda
export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK
MASTER=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
srun --kill-on-bad-exit=1 torchrun --rdzv_endpoint="$MASTER:$((20000 + SLURM_JOB_ID % 10000))" train.py &
wait
wait
scontrol requeue "$SLURM_JOB_ID"
"""


def changed(before: str, after: str) -> str:
    """Return the good script with one change."""
    assert before in GOOD
    return GOOD.replace(before, after, 1)


def found(script: str) -> dict[str, str]:
    """Return the rules that a script breaks, each with its severity."""
    return {finding.rule: finding.severity for finding in lint(script)}

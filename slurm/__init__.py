"""The Slurm target. Only this package uses sbatch, squeue, sacct, scontrol and scancel."""

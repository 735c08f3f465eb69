"""The Slurm target: everything that knows the words sbatch, squeue, sacct, scontrol and scancel."""

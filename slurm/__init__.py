"""The Slurm target. Its modules use sbatch, squeue, sacct, scontrol and scancel."""

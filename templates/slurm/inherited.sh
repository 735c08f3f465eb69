# forget_inherited: unset variables for Slurm's commands that do not belong to this job. They come from an allocation in
# which sbatch was called, from a profile, or from --export=NONE. Variables that describe this job stay. No variable of
# this script may begin with one of these prefixes.
forget_inherited() {
  local name
  for name in "${!SLURM_@}" "${!SBATCH_@}" "${!SALLOC_@}" "${!SRUN_@}"; do
    case $name in
      SLURM_JOB_* | SLURM_JOBID | SLURM_ARRAY_* | SLURM_HET_* | SLURM_RESTART_COUNT) ;;
      SLURM_NODELIST | SLURM_NNODES | SLURM_NODEID | SLURM_PROCID | SLURM_LOCALID | SLURM_TASKS_PER_NODE) ;;
      SLURM_CLUSTER_NAME | SLURM_CONF | SLURM_SUBMIT_*) ;;
      # A batch job belongs to the cluster of its node. An allocation may belong to another cluster, so it keeps these.
      SLURM_CLUSTERS | SLURM_WORKING_CLUSTER) [ -n "${STEP_NAME:-}" ] || unset "$name" ;;
      *) unset "$name" ;;
    esac
  done
  # Without this, srun would pass no variables on if sbatch passed none.
  export SLURM_EXPORT_ENV=ALL
}

# cpus_per_node: print how many CPUs the job has on the node where it has the fewest: 8 for "16(x2),8".
cpus_per_node() {
  local cpus fewest=""
  local cpus_of_nodes=${SLURM_JOB_CPUS_PER_NODE:-}
  for cpus in ${cpus_of_nodes//,/ }; do
    cpus=${cpus%%(*}
    if [ -z "$fewest" ] || [ "$cpus" -lt "$fewest" ]; then fewest=$cpus; fi
  done
  echo "${fewest:-1}"
}

# threads RANKS: print each rank's share of a node's CPUs, at most 8. More do not help.
threads() {
  local share=$(($(cpus_per_node) / $1))
  if [ "$share" -gt 8 ]; then share=8; fi
  if [ "$share" -lt 1 ]; then share=1; fi
  echo "$share"
}

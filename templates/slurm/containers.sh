# Pyxis keeps a container that has a name, so the next step of the job need not unpack the image again. If its
# container_scope is "job", pyxis removes the container with the job. Otherwise these functions remove it.

# remove_dead_containers: on the nodes of this job, remove the containers of our jobs that have ended.
remove_dead_containers() {
  local active
  active=$(timeout --kill-after=5 20 squeue --noheader --me --format=%A) || return 0
  read -ra active <<<"${active//$'\n'/ }"
  remove_containers but "${active[@]}"
}

# remove_containers only|but JOB...: remove the named containers of only these jobs, or of all jobs but these.
remove_containers() {
  timeout --kill-after=5 20 srun --overlap "--nodelist=$SLURM_JOB_NODELIST" "--nodes=$SLURM_JOB_NUM_NODES" \
    "--ntasks=$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 --mem=0 --gres=none \
    bash -c "$(declare -f remove_containers_here); remove_containers_here \"\$@\"" bash "$@" || true
}

# remove_containers_here only|but JOB...: do the same on this node.
remove_containers_here() {
  local name named mode=$1
  shift
  command -v enroot >/dev/null || return 0
  for name in $(enroot list); do
    case $name in pyxis_jobctl-*) ;; *) continue ;; esac
    named=but
    case " $* " in *" ${name#pyxis_jobctl-} "*) named=only ;; esac
    [ "$named" != "$mode" ] || enroot remove --force "$name" >/dev/null
  done
}

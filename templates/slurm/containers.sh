# Pyxis keeps a container that has a name, so that the next step of the job finds the image unpacked. It removes it with
# the job only where its container_scope is "job"; else we do.

# remove_dead_containers: remove what jobs of ours that are gone have left on the nodes of this one.
remove_dead_containers() {
  local active
  active=$(timeout --kill-after=5 20 squeue --noheader --me --format=%A) || return 0
  read -ra active <<<"${active//$'\n'/ }"
  remove_containers but "${active[@]}"
}

# remove_containers only|but JOB...: remove the named containers of these jobs, or of all others.
remove_containers() {
  timeout --kill-after=5 20 srun --overlap "--nodelist=$SLURM_JOB_NODELIST" "--nodes=$SLURM_JOB_NUM_NODES" \
    "--ntasks=$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 --mem=0 --gres=none \
    bash -c "$(declare -f remove_containers_here); remove_containers_here \"\$@\"" bash "$@" || true
}

# remove_containers_here only|but JOB...: the same on this node.
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

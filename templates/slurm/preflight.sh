# check_nodes: check which of HOSTS are fit, and keep as many fit nodes as the job needs.
check_nodes() {
  local host good=() LAUNCH=("${LAUNCH[@]}")
  meet "$SLURM_JOB_ID-preflight" 1
  run "$PYTHON" -m jobctl.trainer.preflight "${LAUNCH[@]}" -- "${PREFLIGHT[@]}" "--hosts=$(hosts)" ||
    [ -e "$LOG_DIR/bad-nodes" ] || echo "jobctl: the preflight failed, but found no bad node; the job continues"
  [ "$TERMINATED" = 0 ] || exit "$EXIT_TERMINATED"

  for host in "${HOSTS[@]}"; do
    grep -q "^$host"$'\t' "$LOG_DIR/bad-nodes" 2>/dev/null || good+=("$host")
  done
  if [ "${#good[@]}" -lt "$JOB_NODES" ] && [ "$JOB_PREFLIGHT" = stop ]; then
    echo "jobctl: ${#good[@]} nodes are fit, $JOB_NODES are needed; to run anyway: --set preflight=report"
    exit "$EXIT_HARDWARE"
  fi
  if [ "${#good[@]}" -ge "$JOB_NODES" ]; then HOSTS=("${good[@]}"); fi
  HOSTS=("${HOSTS[@]:0:$JOB_NODES}")
  echo "jobctl: training on ${HOSTS[*]}"
}

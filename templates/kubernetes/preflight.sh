# check_pods: check that the pods' nodes are fit. The scheduler chooses the nodes, so a bad node ends the attempt.
check_pods() {
  local options=("${LAUNCH[@]}")
  if [ "$JOB_PEERS" -gt 1 ]; then options+=("--master_port=$((RENDEZVOUS_PORT + 1))"); fi
  if run "$PYTHON" -m jobctl.trainer.preflight "${options[@]}" -- "${PREFLIGHT[@]}"; then return 0; fi

  if [ "$JOB_PREFLIGHT" = stop ] && [ -e "$LOG_DIR/bad-nodes" ]; then
    echo "jobctl: a node is not fit; to avoid it: --set exclude=NODE; to run anyway: --set preflight=report"
    exit "$EXIT_HARDWARE"
  fi
  echo "jobctl: the preflight failed; the job continues"
}

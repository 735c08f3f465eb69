# check_pods: look whether the pods' nodes are fit. The scheduler chooses the nodes, so a bad one ends the attempt.
check_pods() {
  local options=("${LAUNCH[@]}")
  if [ "$JOB_PEERS" -gt 1 ]; then options+=("--master_port=$((RENDEZVOUS_PORT + 1))"); fi
  if run "$PYTHON" -m jobctl.trainer.preflight "${options[@]}" -- "${PREFLIGHT[@]}"; then return 0; fi

  if [ "$JOB_PREFLIGHT" = stop ] && [ -e "$LOG_DIR/bad-nodes" ]; then
    echo "jobctl: a node is not fit; --set exclude=NODE avoids it, --set preflight=report goes on all the same"
    exit "$EXIT_HARDWARE"
  fi
  echo "jobctl: the preflight did not end well; going on"
}

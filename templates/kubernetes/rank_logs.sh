# follow_ranks: copy the log of each rank of this pod to the pod's own log, with the rank before each line. When WATCHED
# has ended, tail reads once more and ends.
follow_ranks() {
  local rank
  sleep infinity &
  WATCHED=$!
  for ((rank = POD * JOB_PROCESSES; rank < (POD + 1) * JOB_PROCESSES; rank++)); do
    tail -n +1 -s 0.5 -F --pid="$WATCHED" "$LOG_DIR/rank-$(printf %05d "$rank").log" 2>/dev/null |
      sed -u "s/^/[rank $rank] /" >&3 &
    FOLLOWERS+=("$!")
  done
}

# stop_following: wait until the last lines of the ranks are in the pod's log.
stop_following() {
  [ -n "$WATCHED" ] || return 0
  kill "$WATCHED"
  wait "$WATCHED" "${FOLLOWERS[@]}" || true
}

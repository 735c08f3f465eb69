# reason_of CODE: print why the attempt ended. The exit code and the file STOP show it.
reason_of() {
  # The first line of STOP is the first request. A pod may add a line if it gets SIGTERM while it checkpoints.
  if [ "$1" = 0 ] || was_cancelled; then
    reason "$1"
  elif [ -e "$TIME_IS_UP" ]; then
    echo "time limit"
  elif [ "$1" = "$EXIT_CONTINUE" ] && head -n 1 "$STOP" 2>/dev/null | grep -q '^time limit'; then
    echo "time limit"
  elif [ "$1" = "$EXIT_CONTINUE" ] && grep -q '^pod' "$STOP" 2>/dev/null; then
    echo preempted
  else
    reason "$1"
  fi
}

# finish CODE: record how the attempt ended, and exit with a code that tells Kubernetes whether to try again. It tries
# again for codes of 128 and more: EXIT_CONTINUE, and the codes of processes that a signal ended.
finish() {
  local code=$1 own
  trap '' TERM
  rm -f "$LIVE"
  stop_clock

  # Finished work is kept, so a job that ended at the warning continues in the next attempt.
  if [ "$JOB_AT_WARNING" = terminate ] && [ -e "$TIME_IS_UP" ] && [ "$code" = "$EXIT_TERMINATED" ]; then
    code=$EXIT_CONTINUE
  fi
  own=$code

  if [ "$POD" = 0 ]; then end_attempt "$code" "$(reason_of "$code")"; fi
  if [ "$JOB_PEERS" -gt 1 ]; then
    code=$(judge "$code")
    if [ "$POD" = 0 ]; then record_verdict "$own" "$code"; fi
  fi

  report_end "$code"
  code=$(code_for_kubernetes "$code")
  stop_following
  exec >&3 2>&3
  wait "$TEE" || true
  exit "$code"
}

# record_verdict OWN_CODE CODE: record the end of the attempt, CODE. The first pod itself ended with OWN_CODE.
record_verdict() {
  if [ "$2" = "$EXIT_CONTINUE" ] && [ "$1" != "$EXIT_CONTINUE" ]; then
    end_attempt "$1" requeued
  elif [ "$2" != "$1" ]; then
    end_attempt "$2" "$(reason_of "$2")"
  fi
  printf '%s\n' "$2" | write_durably "$LOG_DIR/verdict"
}

# report_end CODE: write how the attempt ended into the file that Kubernetes shows in the pod's status. jobctl status
# reads its first line. The last lines of the log follow, for people.
report_end() {
  local bad
  bad=$(cut -f 1 "$LOG_DIR/bad-nodes" 2>/dev/null | sort -u | paste -sd,) || true
  {
    printf '{"attempt": %d, "exit_code": %d, "reason": "%s", "bad_nodes": "%s"}\n' \
      "${ATTEMPT:-0}" "$1" "$(reason_of "$1")" "$bad"
    # Kubernetes accepts 4096 bytes, and at most 12 KiB from all containers together.
    if [ "$1" != 0 ]; then tail -n 8 "$BATCH_LOG" | tail -c 2000; fi
  } >"$TERMINATION_LOG" 2>/dev/null || true
}

# code_for_kubernetes CODE: check the limits on attempts, and print the exit code for Kubernetes. It starts the pod
# again only for EXIT_CONTINUE and for the codes of signals.
code_for_kubernetes() {
  local code=$1
  if is_own_failure "$code"; then
    if ! was_cancelled && has_retries_left; then
      echo "jobctl: exit code $code; the job starts again" >&2
      code=$EXIT_CONTINUE
    elif [ "$code" -ge 128 ]; then
      code=$EXIT_FAILED
    fi
  elif [ "$code" = 0 ] || [ "$code" = "$EXIT_USAGE" ]; then
    : # no other attempt
  elif was_cancelled; then
    echo "jobctl: stopped by a user; not started again" >&2
    code=0
  elif [ "$code" != "$EXIT_CONTINUE" ] && [ -e "$TIME_IS_UP" ]; then
    echo "jobctl: the time was over before a checkpoint was saved; not started again" >&2
    code=$EXIT_FAILED
  elif ! has_attempts_left "stopped|time limit|failed|requeued"; then
    echo "jobctl: $JOB_MAX_ATTEMPTS attempts made; not started again" >&2
    code=$EXIT_FAILED
  fi
  echo "$code"
}

# is_own_failure CODE: whether the job failed by itself. Then another try may help.
is_own_failure() {
  case $1 in
    0 | "$EXIT_USAGE" | "$EXIT_CONTINUE") return 1 ;;
    *) ! is_signal "$1" ;;
  esac
}

# close_attempts: complete the records of this job's earlier attempts whose first pod was killed and could not do so.
close_attempts() {
  local file log end
  for file in "$RUN_DIR"/attempts/*.json; do
    if [ "$file" = "$RUN_DIR/attempts/$ATTEMPT.json" ]; then continue; fi
    if grep -q '"job_id": "'"$JOB_ID"'", .*"step": "'"$JOB_STEP"'", .*"end": null' "$file"; then
      # The last change of the log is a time at which the pod was still alive.
      log=$RUN_DIR/logs/$(basename "$file" .json)/batch.log
      if [ ! -e "$log" ]; then log=${log%/*}; fi
      end=$(date -u -r "$log" +%Y-%m-%dT%H:%M:%SZ)
      sed 's/"end": null, "exit_code": null, "reason": null/"end": "'"$end"'", "exit_code": null, "reason": "requeued"/' \
        "$file" | write_durably "$file"
    fi
  done
}

# reason_of CODE: print why the attempt ended, from its exit code and from who asked it to stop.
reason_of() {
  if [ "$1" = "$EXIT_CONTINUE" ] && grep -q '^pod' "$STOP" 2>/dev/null; then
    echo preempted
  else
    reason "$1"
  fi
}

# finish CODE: record how the attempt ended, and leave with the code that tells Kubernetes whether to try again.
# It tries again for codes of 128 and more: EXIT_CONTINUE, and those of a process that a signal ended.
finish() {
  local code=$1
  trap '' TERM
  rm -f "$LIVE"
  if [ "$POD" = 0 ]; then end_attempt "$code" "$(reason_of "$code")"; fi
  if [ "$JOB_PEERS" -gt 1 ]; then
    code=$(judge "$code")
    if [ "$POD" = 0 ]; then record_verdict "$1" "$code"; fi
  fi

  code=$(code_for_kubernetes "$code")
  stop_following
  exec >&3 2>&3
  wait "$TEE" || true
  exit "$code"
}

# record_verdict OWN_CODE CODE: the attempt ended with CODE, the first pod itself with OWN_CODE.
record_verdict() {
  if [ "$2" = "$EXIT_CONTINUE" ] && [ "$1" != "$EXIT_CONTINUE" ]; then
    end_attempt "$1" requeued
  elif [ "$2" != "$1" ]; then
    end_attempt "$2" "$(reason_of "$2")"
  fi
  printf '%s\n' "$2" | write_durably "$LOG_DIR/verdict"
}

# code_for_kubernetes CODE: print the code to leave with, after looking at the limits on attempts.
code_for_kubernetes() {
  local code=$1
  if [ "$code" -ge 128 ] && was_cancelled; then
    echo "jobctl: stopped by a user; not started again" >&2
    code=0
  elif is_own_failure "$code"; then
    if has_retries_left; then
      echo "jobctl: exit code $code; tried again" >&2
      code=$EXIT_CONTINUE
    elif [ "$code" = "$EXIT_HARDWARE" ]; then
      code=$EXIT_FAILED
    fi
  elif [ "$code" -ge 128 ] && ! has_attempts_left "stopped|failed|requeued"; then
    echo "jobctl: $JOB_MAX_ATTEMPTS attempts made; not started again" >&2
    code=$EXIT_FAILED
  fi
  echo "$code"
}

# is_own_failure CODE: whether the job failed by itself, and another try may help.
is_own_failure() {
  case $1 in
    "$EXIT_HARDWARE") return 0 ;;
    0 | "$EXIT_USAGE") return 1 ;;
    *) [ "$1" -lt 128 ] ;;
  esac
}

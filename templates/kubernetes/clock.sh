# The time limit of an attempt. Kubernetes does not warn a pod before its time is over, so each pod reads the clock.

# watch_clock: warn the job JOB_STOP_GRACE_SECONDS before END, and end it at END. It runs in the background.
watch_clock() {
  # A job may end at once, so the signal may come at any moment. The jobs builtin lists a sleep from its first
  # moment on.
  trap 'kill $(jobs -p) 2>/dev/null; exit 0' TERM

  # bash runs a trap while it waits for a child, but not while a child runs in the foreground. The sleep must not keep
  # the job's output open: a reader of the output would wait for it.
  doze() {
    sleep "$1" >/dev/null 2>&1 3>&- &
    wait "$!"
  }

  doze "$(seconds_until "$((END - JOB_STOP_GRACE_SECONDS))")"
  warn_job
  doze "$(seconds_until "$END")"
  touch "$TIME_IS_UP"
  echo "jobctl: the time limit is over" >&3
  end_payload TERM
  doze "$JOB_KILL_SECONDS"
  end_payload KILL
}

# seconds_until TIME: print how many seconds remain until TIME (seconds since 1970). Print 0 for a time in the past.
seconds_until() {
  local seconds=$(($1 - $(date +%s)))
  echo "$((seconds > 0 ? seconds : 0))"
}

# warn_job: tell the job that the time limit is near.
warn_job() {
  case $JOB_AT_WARNING in
    # The trainers of all pods see STOP, checkpoint and end with EXIT_CONTINUE. One pod is enough to create it.
    checkpoint) if [ "$POD" = 0 ]; then echo "time limit" >>"$STOP"; fi ;;
    # The next attempt continues from the finished work, so this attempt ends now.
    terminate) touch "$TIME_IS_UP" && kill -TERM "$$" ;;
    # Its work is not kept, so it uses the remaining time.
    continue) ;;
  esac
}

# end_payload SIGNAL: send SIGNAL to the payload of this pod.
end_payload() {
  local child
  if child=$(kept_pid "$LOG_DIR/.exit_code-$POD"); then kill "-$1" "$child" 2>/dev/null || true; fi
}

# stop_clock: stop the clock of an attempt that ends before its time is over.
stop_clock() {
  [ -n "${CLOCK:-}" ] || return 0
  kill "$CLOCK" 2>/dev/null || true
  wait "$CLOCK" 2>/dev/null || true
}

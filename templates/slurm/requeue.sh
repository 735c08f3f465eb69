# on_end: react to TERM, with which Slurm ends this job. If Slurm preempts by cancelling, the payload has KillWait
# seconds, and this shell dies with it.
on_end() {
  TERMINATED=1
  [ -z "${IN_TIME:-}" ] || return 0
  requeue_in_time &
  IN_TIME=$!
}

# requeue_in_time: start a preempted job again while its payload still saves. A payload that needs all of KillWait
# would leave finish no time. A quick payload ends in the first half of KillWait; then finish knows its exit code
# and requeues. This function runs in the background.
requeue_in_time() {
  local job killed
  trap '' TERM USR2
  job=$(ask_slurm 20 scontrol show job --local --oneliner "$JOB_ID") || return 0
  case $job in *PreemptTime=[0-9]*) ;; *) return 0 ;; esac
  if was_requeued "$job" || was_cancelled; then return 0; fi

  killed=$(kill_wait)
  sleep "$((killed / 2))"
  # This function and finish may both want to requeue. mkdir succeeds for one of them.
  mkdir "$LOG_DIR/.requeue" 2>/dev/null || return 0
  write_attempt "\"$(now)\"" "$EXIT_TERMINATED" '"preempted"'
  requeue
}

# kill_wait: print how many seconds Slurm waits between TERM and KILL.
kill_wait() {
  local config
  config=$(ask_slurm 5 scontrol show config) || true
  config=$(sed -n 's/^KillWait *= *\([0-9][0-9]*\).*/\1/p' <<<"$config")
  echo "${config:-10}"
}

# was_requeued_in_time: whether requeue_in_time has requeued the job. If it is doing so, wait for it. If it has not
# begun, it does not begin after this call.
was_requeued_in_time() {
  [ -n "${IN_TIME:-}" ] && ! mkdir "$LOG_DIR/.requeue" 2>/dev/null || return 1
  wait "$IN_TIME" || true
}

# finish CODE: record how the attempt ended, and requeue the job if it must continue.
finish() {
  local code=$1 job="" why
  explain_end
  if was_requeued_in_time; then finish_requeued; fi
  end_attempt "$code" "$why"
  # Slurm starts no step in a job that it is ending.
  if [ -n "${JOB_KEPT_CONTAINER:-}" ] && [ "$TERMINATED" = 0 ]; then remove_containers only "$SLURM_JOB_ID"; fi

  case $TERMINATED/$why/$code in
    # If the preemption cancels the job, only the job itself starts it again.
    1/preempted/*) ;;
    # At the time limit Slurm leaves the decision to the job. In all other cases Slurm has decided.
    "1/time limit/$EXIT_CONTINUE") ;;
    1/*) exit "$code" ;;
  esac

  case $why in
    preempted) ;;
    "node failure") leave_without_progress ;;
    "time limit" | stopped)
      leave_without_progress
      if ! has_attempts_left "time limit|stopped"; then
        echo "jobctl: $JOB_MAX_ATTEMPTS attempts made; not requeued"
        exit "$EXIT_FAILED"
      fi
      ;;
    failed | hardware | busy) has_retries_left || exit "$code" ;;
    *) exit "$code" ;;
  esac
  requeue
  exit "$code"
}

# finish_requeued: end an attempt whose job has already requeued itself. Slurm counts that as a requeue by a user.
finish_requeued() {
  if [ "$why" = cancelled ]; then
    ask_slurm 20 scancel "$JOB_ID" >/dev/null || true
  else
    why=preempted
  fi
  end_attempt "$code" "$why"
  exit "$code"
}

# leave_without_progress: end a job that was stopped JOB_FRUITLESS_ATTEMPTS times in a row before it saved a step.
leave_without_progress() {
  local attempt=$ATTEMPT
  [ "$JOB_AT_WARNING" = checkpoint ] && [ "$(checkpoint_name)" = "$FIRST_CHECKPOINT" ] || return 0

  touch "$LOG_DIR/no-progress"
  while [ -e "$RUN_DIR/logs/$attempt/no-progress" ]; do attempt=$((attempt - 1)); done
  if [ "$((ATTEMPT - attempt))" -ge "$JOB_FRUITLESS_ATTEMPTS" ]; then
    echo "jobctl: $((ATTEMPT - attempt)) attempts in a row saved no step; not requeued." \
      "Set a longer time_limit or a shorter stop_grace_seconds"
    exit "$EXIT_FAILED"
  fi
}

# requeue: start the job again, without its bad nodes. Slurm cannot change which nodes a running job avoids. A job on
# hold would wait for ever if this shell died. So the job is first requeued and then changed. Slurm does not start it
# before this shell has ended.
requeue() {
  local bad
  # While this file exists, Slurm has not accepted the request. jobctl status reports that.
  echo "Slurm has not accepted the requeue" >"$LOG_DIR/requeue-lost"
  if ! ask_slurm "$(seconds_left)" scontrol requeue "$JOB_ID" >/dev/null; then
    echo "jobctl: not requeued; to continue: jobctl resume $RUN"
    return 0
  fi
  rm -f "$LOG_DIR/requeue-lost"

  bad=$(cat "$RUN_DIR"/logs/*/bad-nodes 2>/dev/null | cut -f 1 | sort -u | paste -sd, || true)
  if [ -z "$bad" ]; then
    echo "jobctl: requeued"
  elif ask_slurm 20 scontrol update "JobId=$JOB_ID" "ExcNodeList=$JOB_AVOIDED_NODES$bad" >/dev/null; then
    echo "jobctl: requeued, without $bad"
  else
    echo "jobctl: requeued, but Slurm may give it $bad again"
  fi
}

# signal_steps SIGNAL: send SIGNAL to all steps of this job.
signal_steps() {
  ask_slurm "$(seconds_left)" scancel "--signal=$1" "$JOB_ID"
}

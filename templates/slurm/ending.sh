# on_warning: Slurm sends USR2 before the time limit, or before it preempts the job.
on_warning() {
  WARNED=1
  case $JOB_AT_WARNING in
    # The trainer sees STOP, checkpoints and ends with EXIT_CONTINUE.
    checkpoint) echo "time limit" >>"$STOP" ;;
    # The next attempt goes on from what is done, so this one ends now.
    terminate) scancel --signal=TERM "$SLURM_JOB_ID" ;;
    # Nothing of it is kept, so it uses the time that remains.
    continue) ;;
  esac
}

# leave_early: end a job that was told to end before it began, so that nothing starts that cannot end in time.
leave_early() {
  [ "$TERMINATED" = 0 ] || exit "$EXIT_TERMINATED"
  [ ! -e "$STOP" ] || exit "$EXIT_CONTINUE"
  if [ "$WARNED" = 1 ] && [ "$JOB_AT_WARNING" != continue ]; then exit "$EXIT_CONTINUE"; fi
}

# reason_of CODE: print why the attempt ended. Slurm knows what it does to the job: when it preempts, it signals the
# steps at once, and this shell only after the partition's GraceTime.
reason_of() {
  local job
  if [ "$1" != 0 ] && was_cancelled; then echo cancelled && return 0; fi
  job=$(scontrol show job --oneliner "$SLURM_JOB_ID") || true

  case $TERMINATED/$1/$job in
    */0/*) echo finished ;;
    1/*/*JobState=CANCELLED*) echo cancelled ;;
    1/*/*JobState=TIMEOUT*) echo "time limit" ;;
    1/*/*JobState=PREEMPTED* | */*/*PreemptTime=[0-9]*) echo preempted ;;
    1/*/*) echo requeued ;; # by hand, or because a node died
    "0/$EXIT_CONTINUE/"*) reason_of_a_stop ;;
    *) reason "$1" ;;
  esac
}

reason_of_a_stop() {
  if [ "$WARNED" = 0 ]; then
    echo stopped
  elif [ "$(date +%s)" -ge "$((END - JOB_STOP_GRACE_SECONDS - 120))" ]; then
    echo "time limit"
  else
    echo preempted
  fi
}

# finish CODE: record how the attempt ended, and requeue the job where it goes on.
finish() {
  local code=$1 why
  trap '' TERM USR2

  # srun answers 0 for a step that Slurm has killed.
  if [ "$TERMINATED" = 1 ] && [ "$code" = 0 ]; then code=$EXIT_TERMINATED; fi
  if [ "$WARNED" = 1 ] && [ "$JOB_AT_WARNING" = terminate ] && [ "$code" = "$EXIT_TERMINATED" ]; then
    code=$EXIT_CONTINUE
  fi
  why=$(reason_of "$code")
  end_attempt "$code" "$why"

  # Slurm has decided what becomes of a job that it terminated. At the time limit it decides nothing.
  if [ "$TERMINATED" = 1 ] && [ "$why/$code" != "time limit/$EXIT_CONTINUE" ]; then exit "$code"; fi

  case $why in
    preempted) ;;
    "time limit" | stopped)
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

# requeue: start the job again, without the nodes that were found bad. A running job cannot be told which nodes to
# avoid, so it is requeued on hold, changed, and released.
requeue() {
  local bad
  bad=$(cat "$RUN_DIR"/logs/*/bad-nodes 2>/dev/null | cut -f 1 | sort -u | paste -sd, || true)
  if [ -n "$bad" ]; then
    echo "jobctl: requeued, without $bad"
    scontrol requeuehold "$SLURM_JOB_ID"
    scontrol update "JobId=$SLURM_JOB_ID" "ExcNodeList=$JOB_AVOIDED_NODES$bad" || true
    scontrol release "$SLURM_JOB_ID"
  else
    echo "jobctl: requeued"
    scontrol requeue "$SLURM_JOB_ID"
  fi
}

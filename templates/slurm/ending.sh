# on_warning: react to USR2. It comes before the time limit, or before Slurm preempts the job.
on_warning() {
  WARNED=1
  case $JOB_AT_WARNING in
    # The trainer sees STOP, checkpoints and ends with EXIT_CONTINUE.
    checkpoint) echo "time limit" >>"$STOP" ;;
    # The next attempt continues from the finished work, so this attempt ends now. The command runs in the background,
    # so that this shell can handle TERM.
    terminate) signal_steps TERM & ;;
    # Its work is not kept, so it uses the remaining time.
    continue) ;;
  esac
}

# leave_early: end a job that was told to end before it began. Otherwise it could start work that cannot end in time.
leave_early() {
  [ "$TERMINATED" = 0 ] || exit "$EXIT_TERMINATED"
  [ ! -e "$STOP" ] || exit "$EXIT_CONTINUE"
  if [ "$WARNED" = 1 ] && [ "$JOB_AT_WARNING" != continue ]; then exit "$EXIT_CONTINUE"; fi
}

# reason_of CODE JOB: print why the attempt ended. JOB is Slurm's record of the job. It shows a preemption: then Slurm
# signals the steps at once, and this shell only after the partition's GraceTime.
reason_of() {
  if [ "$1" != 0 ] && was_cancelled; then echo cancelled && return 0; fi

  case $TERMINATED/$1/$2 in
    */0/*) echo finished ;;
    1/*/*) reason_of_a_kill "$2" ;;
    0/*/*PreemptTime=[0-9]*) echo preempted ;;
    "0/$EXIT_CONTINUE/"*) reason_of_a_stop ;;
    *) reason_of_a_failure "$1" ;;
  esac
}

# reason_of_a_kill JOB: print why Slurm ended the job. Slurm reports every such job as COMPLETING and gives no reason.
reason_of_a_kill() {
  if was_requeued "$1"; then
    reason_of_a_requeue
    return 0
  fi

  case $1 in
    *PreemptTime=[0-9]*) echo preempted ;;
    *) if used_its_time "$1" || clock_is_over; then echo "time limit"; else echo cancelled; fi ;;
  esac
}

# was_requeued JOB: whether Slurm has put the job back into its queue. Then it counts one restart more than when this
# attempt began. If JOB has no count, the answer is yes, so that the job leaves the decision to Slurm.
was_requeued() {
  local restarts=${1#* Restarts=}
  restarts=${restarts%% *}
  case $restarts in
    '' | *[!0-9]*) return 0 ;;
    *) [ "$restarts" -gt "${SLURM_RESTART_COUNT:-0}" ] ;;
  esac
}

# used_its_time JOB: whether the job has used up its time limit.
used_its_time() {
  local run=${1#* RunTime=} limit=${1#* TimeLimit=}
  run=$(seconds_of "${run%% *}") && limit=$(seconds_of "${limit%% *}") && [ "$run" -ge "$limit" ]
}

# clock_is_over: whether a run in an allocation has used up its own time. Slurm counts only the allocation's time. In a
# batch job, END does not explain a kill: an operator may have changed the limit since.
clock_is_over() {
  [ -n "${CLOCK:-}" ] && [ "$(date +%s)" -ge "$END" ]
}

# seconds_of TIME: print DAYS-HOURS:MINUTES:SECONDS as a number of seconds. The days may be missing.
seconds_of() {
  local days=0 hours minutes seconds time=$1
  case $time in
    *[!0-9:-]*) return 1 ;;
    *-*) days=${time%%-*} ;;
  esac
  IFS=: read -r hours minutes seconds <<<"${time#*-}"
  echo "$((((days * 24 + 10#$hours) * 60 + 10#$minutes) * 60 + 10#$seconds))"
}

# reason_of_a_requeue: print why the job was requeued. Slurm requeues a job whose node is down. Otherwise a user did it.
reason_of_a_requeue() {
  local host
  for host in "${HOSTS[@]}"; do
    if is_down "$host"; then
      blame "$host" "Slurm says that it is down"
      echo "node failure"
      return 0
    fi
  done
  echo requeued
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

# reason_of_a_failure CODE: print why the attempt failed. If a node dies, the other nodes fail too, each in its own way.
reason_of_a_failure() {
  if [ "$1" != "$EXIT_USAGE" ] && grep -qs "$DEAD" "$LOG_DIR/bad-nodes"; then
    echo "node failure"
  else
    reason "$1"
  fi
}

# explain_end: set three variables of the caller: code to the exit code that counts, why to the reason, and job to
# Slurm's record of the job.
explain_end() {
  trap '' TERM USR2

  # srun returns 0 for a step that Slurm has killed.
  if [ "$TERMINATED" = 1 ] && [ "$code" = 0 ]; then code=$EXIT_TERMINATED; fi
  if [ "$WARNED" = 1 ] && [ "$JOB_AT_WARNING" = terminate ] && [ "$code" = "$EXIT_TERMINATED" ]; then
    code=$EXIT_CONTINUE
  fi
  if [ "$TERMINATED/$code" != 0/0 ]; then job=$(ask_slurm 20 scontrol show job --local --oneliner "$JOB_ID") || true; fi
  why=$(reason_of "$code" "$job")
}

# checkpoint_name: print the newest checkpoint of the run.
checkpoint_name() {
  cat "$RUN_DIR/checkpoints/LATEST" 2>/dev/null || true
}

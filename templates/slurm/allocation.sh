# A job in an allocation that jobctl did not make and does not end. So the job is never requeued, and only the steps of
# this job get signals.

# use_allocation NODES: choose NODES free nodes of the allocation JOB_ID. A node on which another run of jobctl works
# is not free.
use_allocation() {
  local job known=() listed busy="" allowed="" host
  [ -n "$JOB_ID" ] || fail "this shell is in no allocation: SLURM_JOB_ID is not set;" \
    "start one with salloc, or use --target slurm"
  job=$(ask_slurm 60 scontrol show job --oneliner "$JOB_ID") || fail "Slurm does not know the allocation $JOB_ID"
  [ "$(job_value JobState)" = RUNNING ] || fail "the allocation $JOB_ID is $(job_value JobState)"

  # A shell that was opened with ssh knows only the number of its allocation.
  export SLURM_JOB_ID=$JOB_ID
  export SLURM_JOB_NODELIST=${SLURM_JOB_NODELIST:-$(job_value NodeList)}
  if [ -z "${SLURM_JOB_CPUS_PER_NODE:-}" ]; then
    export SLURM_JOB_CPUS_PER_NODE=$(($(job_value NumCPUs) / $(job_value NumNodes)))
  fi

  mapfile -t known < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
  listed=$(squeue --noheader --steps "--jobs=$JOB_ID" --format='%j %N' | grep '^jobctl:' | cut -d ' ' -f 2) || true
  busy=$(names_of "$listed" "$JOB_AVOIDED_NODES" "$(cut -f 1 "$RUN_DIR"/logs/*/bad-nodes 2>/dev/null)")
  allowed=$(names_of "$JOB_CHOSEN_NODES")
  HOSTS=()
  for host in "${known[@]}"; do
    if grep -Fxq -- "$host" <<<"$busy"; then continue; fi
    if [ -n "$allowed" ] && ! grep -Fxq -- "$host" <<<"$allowed"; then continue; fi
    HOSTS+=("$host")
  done
  [ "${#HOSTS[@]}" -ge "$1" ] || fail "this run needs $1 nodes, and the allocation $JOB_ID has" \
    "${#HOSTS[@]} free nodes of ${#known[@]}; the others are excluded, bad, or in use by another run"
  HOSTS=("${HOSTS[@]:0:$1}")
  END=$(end_of_allocation)
}

# job_value NAME: print one value of the caller's $job, an answer of scontrol.
job_value() {
  local value=" $job"
  value=${value#* "$1"=}
  echo "${value%% *}"
}

# names_of LIST...: print the names of the nodes in the lists, one a line.
names_of() {
  local list
  for list in $(printf '%s\n' "$@" | sed 's/,$//'); do
    scontrol show hostnames "$list" || true
  done
}

# end_of_allocation: print the time at which this attempt must end, in seconds since 1970. It is the attempt's own limit
# or the end of the allocation, whichever comes first.
end_of_allocation() {
  local limit end
  limit=$(($(date +%s) + JOB_LIMIT_SECONDS))
  end=$(date -d "$(job_value EndTime)" +%s 2>/dev/null) || end=$limit
  echo "$((end < limit ? end : limit))"
}

# watch_clock: warn this shell before END, and end its steps at END. It runs in the background, because Slurm signals
# only processes that it has started itself.
watch_clock() {
  local grace=$JOB_STOP_GRACE_SECONDS third=$(((END - $(date +%s)) / 3))
  trap 'kill $(jobs -p) 2>/dev/null; exit 0' TERM
  trap '' INT HUP USR2

  # If little time remains, the warning comes when a third of it remains.
  if [ "$grace" -gt "$third" ]; then grace=$third; fi
  doze_until "$((END - grace))"
  kill -USR2 "$$"
  doze_until "$END"
  kill -TERM "$$"
  doze_until "$((END + JOB_KILL_SECONDS))"
  signal_steps KILL
}

# doze_until TIME: wait for a time, in seconds since 1970. A trap interrupts it.
doze_until() {
  local seconds=$(($1 - $(date +%s)))
  sleep "$((seconds > 0 ? seconds : 0))" &
  wait "$!"
}

# on_end: end the steps, because a user ends this run or its time is over. The steps are not children of this shell.
on_end() {
  TERMINATED=1
  signal_steps TERM &
}

# signal_steps SIGNAL: send SIGNAL to the steps of this run, and to no other step of the allocation.
signal_steps() {
  local step name
  while read -r step name; do
    if [ "$name" = "$STEP_NAME" ]; then scancel --quiet "--signal=$1" "$step" || true; fi
  done < <(squeue --noheader --steps "--jobs=$JOB_ID" --format='%i %j')
}

# finish CODE: record how the attempt ended. If the allocation is over, that is the reason.
finish() {
  local code=$1 job="" why
  kill "$CLOCK" 2>/dev/null || true
  explain_end
  case $why/$(job_value JobState) in
    */RUNNING | */) ;;
    "node failure/"* | failed/* | cancelled/*) if ! was_cancelled; then why="allocation ended"; fi ;;
  esac
  end_attempt "$code" "$why"
  exit "$code"
}

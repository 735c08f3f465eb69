# A job in an allocation that somebody else made, and will end: nothing is requeued, and only this job's steps are signalled.

# use_allocation NODES: take that many nodes of the allocation JOB_ID. Another run of ours keeps the nodes that it works on.
use_allocation() {
  local job known=() listed busy="" allowed="" host
  [ -n "$JOB_ID" ] || fail "there is no allocation: SLURM_JOB_ID is not set; make one with salloc, or take --target slurm"
  job=$(ask_slurm 60 scontrol show job --oneliner "$JOB_ID") || fail "Slurm does not know the allocation $JOB_ID"
  [ "$(job_value JobState)" = RUNNING ] || fail "the allocation $JOB_ID is $(job_value JobState)"

  # A shell that came by ssh knows the number of its allocation, and nothing more.
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
  [ "${#HOSTS[@]}" -ge "$1" ] || fail "the allocation $JOB_ID has ${#known[@]} nodes, ${#HOSTS[@]} of them are free for this run," \
    "which needs $1; the others are excluded, were found bad, or another run works there"
  HOSTS=("${HOSTS[@]:0:$1}")
  END=$(end_of_allocation)
}

# job_value NAME: print a value from what scontrol says of the caller's job.
job_value() {
  local value=" $job"
  value=${value#* "$1"=}
  echo "${value%% *}"
}

# names_of LIST...: print the nodes that the lists name, one a line.
names_of() {
  local list
  for list in $(printf '%s\n' "$@" | sed 's/,$//'); do
    scontrol show hostnames "$list" || true
  done
}

# end_of_allocation: print when this attempt has to end, in seconds since 1970: at its limit, or with the allocation.
end_of_allocation() {
  local limit end
  limit=$(($(date +%s) + JOB_LIMIT_SECONDS))
  end=$(date -d "$(job_value EndTime)" +%s 2>/dev/null) || end=$limit
  echo "$((end < limit ? end : limit))"
}

# watch_clock: warn this shell before END, and end its steps at END. Runs in the background: Slurm signals only what it
# has started itself.
watch_clock() {
  local grace=$JOB_STOP_GRACE_SECONDS third=$(((END - $(date +%s)) / 3))
  trap 'kill $(jobs -p) 2>/dev/null; exit 0' TERM
  trap '' INT HUP USR2

  # Where little time is left, a third of it is for the end.
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

# on_end: somebody ends this run, or its time is over. The steps are no children of this shell.
on_end() {
  TERMINATED=1
  signal_steps TERM &
}

# signal_steps SIGNAL: signal what srun runs for this run, and nothing else of the allocation.
signal_steps() {
  local step name
  while read -r step name; do
    if [ "$name" = "$STEP_NAME" ]; then scancel --quiet "--signal=$1" "$step" || true; fi
  done < <(squeue --noheader --steps "--jobs=$JOB_ID" --format='%i %j')
}

# finish CODE: record how the attempt ended. Where the allocation is over, that is why.
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

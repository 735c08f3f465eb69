# ask_slurm SECONDS COMMAND...: run a command of Slurm until it succeeds, and print its answer. If the controller
# restarts, wait for it, at most SECONDS. Each command has a limit too, because one command may wait for minutes. If the
# controller answers and refuses three times, give up: it would refuse again.
ask_slurm() {
  local answer command deadline limit pause=1 refusals=0
  deadline=$(($(date +%s) + $1))
  limit=$(($1 < 60 ? $1 : 60))
  shift
  command="$1 $2"

  until answer=$(timeout "$limit" "$@" 2>&1); do
    answer=${answer:-no answer}
    if timeout 5 scontrol ping 2>/dev/null | grep -qw UP; then refusals=$((refusals + 1)); fi
    if [ "$refusals" -ge 3 ] || [ "$(date +%s)" -ge "$deadline" ]; then
      echo "jobctl: $command: $answer" >&2
      return 1
    fi
    [ "$pause" != 2 ] || echo "jobctl: $command: waiting for Slurm's controller ($answer)" >&2
    sleep "$pause"
    pause=$((pause < 15 ? pause * 2 : 15))
    limit=$((deadline - $(date +%s)))
    limit=$((limit > 60 ? 60 : limit < 5 ? 5 : limit))
  done
  printf '%s\n' "$answer"
}

# seconds_left: print how long this job may still wait for a controller. If Slurm is ending the job, only KillWait
# remains.
seconds_left() {
  local left=$((END - $(date +%s) - 10))
  if [ "$TERMINATED" = 1 ] || [ "$left" -lt 20 ]; then left=20; fi
  echo "$left"
}

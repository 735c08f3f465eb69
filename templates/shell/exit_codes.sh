# The table of exit codes is EXIT_RANKS and EXIT_REASONS; jobs/core/exit_codes.py gives the reasons for its order.

# rank_of CODE: print how close the code is to the cause. 0 is the closest.
rank_of() {
  if [ -n "${EXIT_RANKS[$1]:-}" ]; then
    echo "${EXIT_RANKS[$1]}"
  elif is_signal "$1"; then
    echo "$EXIT_SIGNAL_RANK"
  else
    echo "$EXIT_OTHER_RANK"
  fi
}

# cause CODE FILE...: print the exit code that caused the others. Each file has the code of one node or pod. CODE is the
# launcher's exit code. It counts only if no file says more than "finished" or "ended by SIGTERM".
cause() {
  local cause=$1 best code rank
  shift
  if [ "$cause" = 0 ]; then
    best=$(rank_of 0)
  else
    best=$(rank_of "$EXIT_TERMINATED")
  fi

  while read -r code; do
    case $code in '' | *[!0-9]*) continue ;; esac
    rank=$(rank_of "$code")
    if [ "$rank" -lt "$best" ]; then
      best=$rank
      cause=$code
    fi
  done < <(cat -- "$@" 2>/dev/null)
  echo "$cause"
}

# was_cancelled: whether a user has asked this job to stop.
was_cancelled() {
  grep -q '^cancel' "$STOP" 2>/dev/null
}

# is_signal CODE: whether a shell gives this code for a process that a signal ended.
is_signal() {
  [ "$1" -gt 128 ] && [ "$1" -le "$EXIT_LAST_SIGNAL" ]
}

# reason CODE: print the reason for the record of an attempt that ended with CODE. If a cancel killed the process, the
# reason is also "cancelled".
reason() {
  if { [ "$1" = "$EXIT_CONTINUE" ] || is_signal "$1"; } && was_cancelled; then
    echo cancelled
  else
    echo "${EXIT_REASONS[$1]:-$EXIT_OTHER_REASON}"
  fi
}

# set_limits: let this shell and its children open JOB_OPEN_FILES files at once (0: no change), and write core files of
# JOB_CORE_KIB KiB when they crash. If the node allows less, use its limit and report it. Then set the two variables to
# what this node allows. The other nodes get these values, and report only a limit that is lower still.
set_limits() {
  local allowed
  allowed=$(ulimit -H -n)
  if exceeds "$JOB_OPEN_FILES" "$allowed"; then
    say_limit "a process may open $allowed files, fewer than slurm.open_files ($JOB_OPEN_FILES); see ulimit -H -n"
    JOB_OPEN_FILES=$allowed
  fi
  if exceeds "$JOB_OPEN_FILES" "$(ulimit -S -n)"; then ulimit -S -n "$JOB_OPEN_FILES" || true; fi

  allowed=$(ulimit -H -c)
  if exceeds "$JOB_CORE_KIB" "$allowed"; then
    say_limit "a core file may have $allowed KiB, less than slurm.core_file_mib asks for; see ulimit -H -c"
    JOB_CORE_KIB=$allowed
  fi
  ulimit -S -c "$JOB_CORE_KIB" || true
}

# exceeds LIMIT OTHER: whether LIMIT is more than OTHER. Either may be "unlimited".
exceeds() {
  [ "$2" != unlimited ] || return 1
  [ "$1" = unlimited ] || [ "$1" -gt "$2" ]
}

say_limit() {
  echo "jobctl: ${NODE:-${SLURMD_NODENAME:-this node}}: $1" >&2
}

# record_output: copy standard input to the log, and to the terminal unless JOBCTL_QUIET is set.
record_output() {
  trap '' TERM INT HUP
  if [ -n "${JOBCTL_QUIET:-}" ]; then
    exec cat >>"$LOG_DIR/batch.log"
  else
    exec tee -a "$LOG_DIR/batch.log"
  fi
}

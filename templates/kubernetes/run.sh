# run COMMAND...: run COMMAND in this pod, and return its exit code.
run() {
  supervise "$@"
}

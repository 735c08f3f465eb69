# keep_code FILE COMMAND...: run COMMAND, return its exit code and write the code to FILE. Signals to this shell do not
# end it. If a signal interrupts wait, bash may lose the code of a child that ends then (bash 5.2 answers -1). So the
# child's own shell writes the code: there the command runs in the foreground, and nothing interrupts it. While COMMAND
# runs, kept_pid prints its process id.
keep_code() {
  local file=$1 code=137 child hidden
  hidden=${file%/*}/.${file##*/}
  shift
  rm -f "$file"
  (
    trap : TERM INT HUP USR2
    code=0
    (echo "$BASHPID" >"$hidden.pid" && exec "$@") || code=$?
    rm -f "$hidden.pid"
    # A reader sees no file, or the whole code.
    echo "$code" >"$hidden.new" && mv "$hidden.new" "$file"
  ) &
  child=$!
  while kill -0 "$child" 2>/dev/null; do
    wait "$child" || true
  done
  if [ -e "$file" ]; then read -r code <"$file"; fi
  return "$code"
}

# kept_pid FILE: print the process id of the command that keep_code runs.
kept_pid() {
  cat "${1%/*}/.${1##*/}.pid" 2>/dev/null
}

# supervise COMMAND...: run COMMAND and return its exit code, even if signals arrive meanwhile.
supervise() {
  local file=$LOG_DIR/.exit_code-${POD:-0} code=0
  keep_code "$file" "$@" || code=$?
  rm -f "$file"
  return "$code"
}

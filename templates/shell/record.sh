# write_record: write run.json, once for all attempts.
write_record() {
  printf '%s\n' "$JOB_RECORD" | write_durably "$RUN_DIR/.run.json"
  # Several jobs may write at once. One of them makes the link, and the others use its file.
  ln "$RUN_DIR/.run.json" "$RUN_DIR/run.json" 2>/dev/null || true
  rm -f "$RUN_DIR/.run.json"
}

# write_attempt END EXIT_CODE REASON: write the record of this attempt. Each argument is JSON.
write_attempt() {
  {
    printf '{"attempt": %d, "job_id": "%s", "target": "%s", ' "$ATTEMPT" "$JOB_ID" "$JOB_TARGET"
    printf '"step": "%s", "task": %d, "tasks": %d, ' "$JOB_STEP" "${TASK_INDEX:-0}" "${TASKS:-1}"
    printf '"host": "%s", "nodes": "%s", "pid": %d, ' "$(uname -n)" "$NODES" "$$"
    printf '"start": "%s", "end": %s, "exit_code": %s, "reason": %s}\n' "$STARTED" "$1" "$2" "$3"
  } | write_durably "$RUN_DIR/attempts/$ATTEMPT.json"
}

# begin_attempt: make the run directory if it is missing, and take the next attempt number in it.
begin_attempt() {
  make_run_folders
  check_record

  # Several jobs may want the same number. mkdir succeeds for one of them.
  ATTEMPT=1
  until mkdir "$RUN_DIR/logs/$ATTEMPT" 2>/dev/null; do
    [ -d "$RUN_DIR/logs/$ATTEMPT" ] || fail "$RUN_DIR/logs cannot be written; does run $RUN belong to someone else?"
    ATTEMPT=$((ATTEMPT + 1))
  done
  LOG_DIR=$RUN_DIR/logs/$ATTEMPT
  STARTED=$(now)

  forget_old_stop
  write_attempt null null null
  export JOBCTL_ROOT RUN RUN_DIR ATTEMPT
}

# forget_old_stop: remove a STOP that an earlier attempt has obeyed, or that has only lines by which a job itself says
# why it ends. Any other STOP is meant for this attempt, even if a user wrote it while the job waited.
forget_old_stop() {
  local stop
  stop=$(stamp "$STOP")
  if cat "$RUN_DIR"/logs/*/.obeyed 2>/dev/null | grep -Fxq -- "$stop"; then
    rm -f "$STOP"
  elif [ -s "$STOP" ] && ! grep -qv -e '^time limit$' -e '^launcher received ' "$STOP"; then
    rm -f "$STOP"
  fi
}

make_run_folders() {
  make_shared "$JOBCTL_ROOT/runs"
  [ -d "$RUN_DIR" ] || mkdir -p "$RUN_DIR" || fail "$JOBCTL_ROOT cannot be written; set JOBCTL_ROOT"
  # Check the folder before anything is written into it.
  check_run
  mkdir -p "$RUN_DIR/attempts" "$RUN_DIR/logs" || fail "$JOBCTL_ROOT cannot be written; set JOBCTL_ROOT"
}

# check_record: fail if the directory belongs to a run with other settings.
check_record() {
  if [ -n "$JOB_READS_CHECKPOINT" ]; then
    [ -e "$RUN_DIR/run.json" ] || fail "run $RUN does not exist; this job reads the checkpoint of a run"
    return 0
  fi
  [ -e "$RUN_DIR/run.json" ] || write_record
  grep -Fq "\"spec_hash\": \"$JOB_SPEC_HASH\"" "$RUN_DIR/run.json" ||
    fail "run $RUN exists and was made with other settings; choose another name with --run"
}

# end_attempt EXIT_CODE [REASON]: complete the record of this attempt.
end_attempt() {
  [ ! -e "$STOP" ] || stamp "$STOP" >"$LOG_DIR/.obeyed"
  write_attempt "\"$(now)\"" "$1" "\"${2:-$(reason "$1")}\""
}

# attempts_ended_by REASONS: count the attempts of this job that ended for one of the reasons. REASONS is a regular
# expression.
attempts_ended_by() {
  cat "$RUN_DIR"/attempts/*.json |
    grep -cE '"step": "'"$JOB_STEP"'", "task": '"${TASK_INDEX:-0}"',.*"reason": "('"$1"')"' || true
}

# has_attempts_left REASONS: whether a job that stops by itself may start again.
has_attempts_left() {
  [ "$(attempts_ended_by "$1")" -lt "$JOB_MAX_ATTEMPTS" ]
}

# has_retries_left: whether a job that failed may start again.
has_retries_left() {
  [ "$(attempts_ended_by "failed|hardware|busy")" -le "$JOB_RETRIES" ]
}

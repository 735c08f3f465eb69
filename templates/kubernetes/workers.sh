# The pods of a job that are workers for themselves: each one works at the task of the first pod.

# enter_attempt: take an attempt's number. Only the first pod keeps the record; another one writes its logs beside it.
enter_attempt() {
  if [ "$POD" = 0 ]; then
    begin_attempt
    close_attempts
    BATCH_LOG=$LOG_DIR/batch.log
  else
    LOG_DIR=$RUN_DIR/logs/pod-$POD
    mkdir -p "$LOG_DIR"
    BATCH_LOG=$LOG_DIR/batch.log
  fi
}

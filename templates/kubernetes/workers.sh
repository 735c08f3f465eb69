# The pods of a job that work independently. All of them work on the same task.

# enter_attempt: take an attempt's number. Only the first pod keeps the record. Another pod writes its logs beside it.
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

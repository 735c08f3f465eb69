# sweep SIZE...: train once for each batch size. A size that does not fit says so in its log; the others go on.
# It succeeds when one size has fitted.
sweep() {
  local size code swept=1
  for size in "$@"; do
    code=0
    run "$PYTHON" -m jobctl.trainer.launch "${LAUNCH[@]}" -- "${TRAINER[@]}" \
      "--run_dir=$RUN_DIR/sweep/$ATTEMPT/batch_size=$size" "--batch_size=$size" --init_from=scratch || code=$?
    if [ "$code" = 0 ]; then swept=0; fi

    # A job that is told to end begins no other size.
    if [ "$code" = "$EXIT_CONTINUE" ] || [ "$code" = "$EXIT_TERMINATED" ] || was_cancelled; then
      exit "$EXIT_TERMINATED"
    fi
  done
  return "$swept"
}

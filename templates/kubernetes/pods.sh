# The pods of one attempt. The first pod takes the attempt's number. Each other pod asks for the number until it
# gets an answer. The first pod begins by removing old questions. So it answers only living pods, and no pod joins
# the attempt of a dead first pod. Questions and answers are files in DESK.

# enter_attempt: take an attempt's number, or join the attempt of the first pod.
enter_attempt() {
  if [ "$POD" = 0 ]; then
    begin_attempt
    # If meet_pods gives up, it counts the attempts. So the records of killed attempts are completed before.
    close_attempts
    BATCH_LOG=$LOG_DIR/batch.log
    meet_pods
  else
    join_attempt
    BATCH_LOG=$LOG_DIR/pod-$POD.log
  fi
}

# meet_pods: wait until all other pods have asked, and answer them.
meet_pods() {
  local pod asks=() asked ask
  rm -rf "$DESK" && mkdir -p "$DESK"
  for ((pod = 1; pod < JOB_PODS; pod++)); do
    printf 'jobctl: waiting for pod %s of %s\n' "$((pod + 1))" "$JOB_PODS"
    until asked=$(compgen -G "$DESK/$pod.*.ask"); do
      give_up_after_the_wait "pod $((pod + 1)) of $JOB_PODS"
      sleep 0.5
    done
    mapfile -t -O "${#asks[@]}" asks <<<"$asked"
    NODES+=,$(cat "${asks[-1]}")
  done
  for ask in "${asks[@]}"; do
    printf '%s %s\n' "$ATTEMPT" "$NODES" | write_durably "${ask%.ask}.attempt"
  done

  # While this pod waited, a pod of the previous attempt may have asked to stop.
  was_cancelled || rm -f "$STOP"
  write_attempt null null null
}

# join_attempt: ask the first pod for the attempt's number until it answers.
join_attempt() {
  local question
  question=$DESK/$POD.$(cat /proc/sys/kernel/random/uuid)
  until read -r ATTEMPT NODES 2>/dev/null <"$question.attempt"; do
    { mkdir -p "$DESK" && printf '%s' "$NODE" >"$question.ask"; } 2>/dev/null || true
    give_up_after_the_wait "the first pod"
    sleep 0.5
  done
  LOG_DIR=$RUN_DIR/logs/$ATTEMPT
  export JOBCTL_ROOT RUN RUN_DIR ATTEMPT
}

# give_up_after_the_wait WHO: end this pod if it has waited too long for WHO. It holds GPUs that others may want,
# and the missing pod may be bound to a dead node. Kubernetes starts this pod again.
give_up_after_the_wait() {
  [ "$SECONDS" -ge "$JOB_START_SECONDS" ] || return 0
  echo "jobctl: $1 did not start within $JOB_START_SECONDS s; this pod ends and is started again"
  printf '{"attempt": %d, "exit_code": %d, "reason": "requeued"}\n%s did not start within %d s\n' \
    "${ATTEMPT:-0}" "$EXIT_CONTINUE" "$1" "$JOB_START_SECONDS" >"$TERMINATION_LOG" 2>/dev/null || true
  if [ "$POD" = 0 ]; then
    end_attempt "$EXIT_CONTINUE" requeued
    if ! has_attempts_left "stopped|time limit|failed|requeued"; then
      echo "jobctl: $JOB_MAX_ATTEMPTS attempts made; not started again"
      exit "$EXIT_FAILED"
    fi
  fi
  exit "$EXIT_CONTINUE"
}

# judge CODE: print the exit code of the whole attempt. If a pod dies, the connections of its peers break, and the peers
# fail too. So the first pod waits for the code of every pod and finds the cause. The other pods use its verdict. A pod
# that was killed leaves no code; then the others end with EXIT_CONTINUE. The training operator ends all pods when the
# first one has finished, so the first pod exits last.
judge() {
  local waited=0
  printf '%s\n' "$1" | write_durably "$LOG_DIR/pod-$POD.exit"

  # In a trap, return without a number would return the script's exit code.
  case $1/$POD in
    "$EXIT_USAGE"/* | "$EXIT_CONTINUE"/* | 0/[1-9]*) printf '%s' "$1" && return 0 ;;
  esac

  until is_decided; do
    if [ "$waited" -ge "$JOB_LAST_WORDS_SECONDS" ] && [ "$1" = 0 ]; then
      break
    elif [ "$waited" -ge "$JOB_LAST_WORDS_SECONDS" ]; then
      echo "jobctl: another pod died and left no exit code; this pod ends and is started again" >&2
      printf '%s' "$EXIT_CONTINUE" && return 0
    fi
    sleep 1
    waited=$((waited + 1))
  done

  if [ "$1" = 0 ]; then
    sleep 1 # the other pods write the last lines of their logs
    printf 0
  elif [ "$POD" = 0 ]; then
    cause "$1" "$LOG_DIR"/pod-*.exit
  else
    cat "$LOG_DIR/verdict"
  fi
}

is_decided() {
  if [ "$POD" != 0 ]; then
    [ -e "$LOG_DIR/verdict" ]
  else
    [ "$(compgen -G "$LOG_DIR/pod-*.exit" | wc -l)" -ge "$JOB_PODS" ]
  fi
}

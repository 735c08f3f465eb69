# hosts: print the names of the job's nodes, joined by commas.
hosts() {
  (IFS=, && echo "${HOSTS[*]}")
}

# run COMMAND...: run COMMAND once on each of HOSTS. Return the exit code of the node that caused the end. If one task
# dies, srun ends all tasks.
run() {
  local code=0 settings command=("$@")
  if [ "${#CONTAINER_COMMAND[@]}" -gt 0 ]; then command=("${CONTAINER_COMMAND[@]}" "$@"); fi
  rm -f "$LOG_DIR"/exit-*

  # The shell on each node gets these functions and values as text, because a container has no file with them.
  settings=$(
    declare -p EXIT_CONTINUE EXIT_FAILED EXIT_HARDWARE EXIT_TERMINATED EXIT_USAGE
    declare -p JOB_CORE_KIB JOB_LAST_WORDS_SECONDS JOB_NODE_CHECKS JOB_NODE_NAME JOB_OPEN_FILES
    declare -f task name_node set_limits exceeds say_limit check_node wait_for_others keep_code kept_pid
    if [ "${#JOB_NODE_CHECKS[@]}" -gt 0 ]; then declare -f "${JOB_NODE_CHECKS[@]}"; fi
  )
  supervise srun "--nodelist=$(hosts)" "--nodes=${#HOSTS[@]}" "--ntasks=${#HOSTS[@]}" \
    "--cpus-per-task=$(cpus_per_node)" "${JOB_SRUN_OPTIONS[@]}" bash -c "$settings; task \"\$@\"" \
    task "$LOG_DIR" "${HOSTS[0]}" "${#HOSTS[@]}" "${command[@]}" || code=$?
  if [ "$code" != 0 ] && [ "$TERMINATED" = 0 ]; then blame_the_dead; fi
  return "$(cause "$code" "$LOG_DIR"/exit-*)"
}

# task FOLDER FIRST_NODE TASKS COMMAND...: run COMMAND on one node, and write its exit code into FOLDER. srun would
# treat EXIT_CONTINUE as a failure and kill the other tasks while they still write. So srun gets 0 instead.
task() {
  local folder=$1 first=$2 tasks=$3 code=0
  shift 3
  name_node "$first"
  # On some sites, the steps do not get the limits of the batch script.
  set_limits

  # Slurm signals only this shell, so this shell passes SIGTERM on.
  ENDED=0
  CODE_FILE=$folder/exit-$NODE
  trap 'ENDED=1; kill -TERM "$(kept_pid "$CODE_FILE")" 2>/dev/null' TERM
  if check_node "$folder"; then keep_code "$CODE_FILE" "$@" || code=$?; else code=$EXIT_USAGE; fi
  if [ "$code" = 127 ]; then
    echo "jobctl: $NODE: $1 does not start on this node; see modules, python and container.runtime of the site" >&2
  fi
  wait_for_others "$folder" "$tasks" "$code"

  if [ "$code" = "$EXIT_HARDWARE" ]; then
    printf '%s\t%s\n' "$NODE" "one of its GPUs failed; see the logs of its ranks" >>"$folder/bad-nodes"
  fi
  [ "$code" != "$EXIT_CONTINUE" ] || code=0
  return "$code"
}

# name_node FIRST_NODE: export the name of this node, and whether torchrun's ranks meet on this node.
name_node() {
  if [ "$JOB_NODE_NAME" = host ]; then
    # In these containers Slurm gives every task the environment of the batch script.
    NODE=$(uname -n)
    NODE=${NODE%%.*}
  else
    NODE=$SLURMD_NODENAME
  fi
  export NODE
  if [ "$NODE" = "$1" ]; then
    export PET_RDZV_CONF=is_host=1
  else
    export PET_RDZV_CONF=is_host=0
  fi
}

# check_node FOLDER: before anything starts, check that this node has what the job's image needs. Write what is missing
# to the log and to FOLDER/bad-nodes.
check_node() {
  local check problem
  for check in "${JOB_NODE_CHECKS[@]}"; do
    problem=$("$check") && continue
    printf '%s\t%s\n' "$NODE" "$problem" >>"$1/bad-nodes"
    echo "jobctl: $NODE: $problem" >&2
    echo "$EXIT_USAGE" >"$1/exit-$NODE"
    return 1
  done
}

# wait_for_others FOLDER TASKS CODE: if another node may have caused the failure of this one, wait for the codes of all
# nodes. srun ends all other tasks at the first failure. If it ends this node while it waits, this node was not the
# cause.
wait_for_others() {
  local codes waited=0
  if [ "$3" != "$EXIT_FAILED" ] && [ "$3" != "$EXIT_TERMINATED" ]; then return 0; fi
  while [ "$ENDED" = 0 ] && [ "$waited" -lt "$JOB_LAST_WORDS_SECONDS" ]; do
    codes=("$1"/exit-*)
    [ "${#codes[@]}" -lt "$2" ] || break
    sleep 1
    waited=$((waited + 1))
  done
  [ "$ENDED" = 0 ] || echo "$EXIT_TERMINATED" >"$1/exit-$NODE"
}

# blame_the_dead: write the dead nodes of HOSTS into bad-nodes. A living node leaves its exit code, unless all its
# processes were killed at once. So only nodes without a code are checked.
blame_the_dead() {
  local host
  for host in "${HOSTS[@]}"; do
    [ ! -e "$LOG_DIR/exit-$host" ] || continue
    if is_down "$host" || ! lives "$host"; then blame "$host" "$DEAD"; fi
  done
}

# blame NODE REASON: record a bad node. The next attempt avoids it.
blame() {
  printf '%s\t%s\n' "$1" "$2" >>"$LOG_DIR/bad-nodes"
  echo "jobctl: $1: $2" >&2
}

# is_down NODE: whether Slurm itself reports the node as dead. A star in its state means that it does not respond.
is_down() {
  local state
  state=$(ask_slurm 20 scontrol show node --oneliner "$1") || return 1
  state=${state#*State=}
  case ${state%% *} in
    DOWN* | *'*'* | *NOT_RESPONDING* | *POWERED_DOWN*) return 0 ;;
    *) return 1 ;;
  esac
}

# lives NODE: whether Slurm can still start a process on the node. Slurm needs minutes to notice a dead node by itself.
# If it cannot start a process on any other of HOSTS either, the answer is yes: then the node is not the problem.
lives() {
  local other
  if starts_on "$1"; then return 0; fi
  for other in "${HOSTS[@]}"; do
    if [ "$other" != "$1" ] && starts_on "$other"; then return 1; fi
  done
}

starts_on() {
  timeout --kill-after=5 "$JOB_ANSWER_SECONDS" srun --overlap "--nodelist=$1" --nodes=1 --ntasks=1 --mem=0 \
    --gres=none true >/dev/null 2>&1
}


# hosts: print the names of the job's nodes, joined by commas.
hosts() {
  (IFS=, && echo "${HOSTS[*]}")
}

# run COMMAND...: run COMMAND once on each of HOSTS, and return the exit code of the node that was the cause. When one
# task dies, srun ends all.
run() {
  local code=0 settings command=("$@")
  if [ "${#CONTAINER_COMMAND[@]}" -gt 0 ]; then command=("${CONTAINER_COMMAND[@]}" "$@"); fi
  rm -f "$LOG_DIR"/exit-*

  # The shell on each node gets these functions and values as text: inside a container it has nothing else.
  settings=$(
    declare -p EXIT_CONTINUE EXIT_FAILED EXIT_HARDWARE EXIT_TERMINATED EXIT_USAGE JOB_LAST_WORDS_SECONDS JOB_NODE_NAME
    declare -p JOB_CORE_KIB JOB_NODE_CHECKS JOB_OPEN_FILES
    declare -f task name_node set_limits exceeds say_limit check_node wait_for_others keep_code kept_pid "${JOB_NODE_CHECKS[@]}"
  )
  supervise srun "--nodelist=$(hosts)" "--nodes=${#HOSTS[@]}" "--ntasks=${#HOSTS[@]}" \
    "--cpus-per-task=$(cpus_per_node)" "${JOB_SRUN_OPTIONS[@]}" bash -c "$settings; task \"\$@\"" task "$LOG_DIR" "${HOSTS[0]}" "${#HOSTS[@]}" "${command[@]}" || code=$?
  if [ "$code" != 0 ] && [ "$TERMINATED" = 0 ]; then blame_the_dead; fi
  return "$(cause "$code" "$LOG_DIR"/exit-*)"
}

# task FOLDER FIRST_NODE TASKS COMMAND...: what each node runs. It leaves its exit code in FOLDER. srun would take
# EXIT_CONTINUE for a failure and kill the other tasks while they still write, so srun gets 0 instead.
task() {
  local folder=$1 first=$2 tasks=$3 code=0
  shift 3
  name_node "$first"
  # Sites may keep a batch script's limits from its steps.
  set_limits

  # Slurm signals this shell only, so it passes SIGTERM on.
  ENDED=0
  CODE_FILE=$folder/exit-$NODE
  trap 'ENDED=1; kill -TERM "$(kept_pid "$CODE_FILE")" 2>/dev/null' TERM
  if check_node "$folder"; then keep_code "$CODE_FILE" "$@" || code=$?; else code=$EXIT_USAGE; fi
  if [ "$code" = 127 ]; then
    echo "jobctl: $NODE: $1 does not start here: see modules, python and container.runtime of the site" >&2
  fi
  wait_for_others "$folder" "$tasks" "$code"

  if [ "$code" = "$EXIT_HARDWARE" ]; then
    printf '%s\t%s\n' "$NODE" "one of its GPUs failed; its ranks say more" >>"$folder/bad-nodes"
  fi
  [ "$code" != "$EXIT_CONTINUE" ] || code=0
  return "$code"
}

# name_node FIRST_NODE: export this node's name, and whether torchrun's ranks meet on it.
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

# check_node FOLDER: look whether this node has what the job's image needs, before anything starts. What is missing
# stands in the log and in FOLDER/bad-nodes.
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

# wait_for_others FOLDER TASKS CODE: srun ends all other tasks at the first failure. So a node whose failure may be
# the consequence of another one waits until that one has left its code. If srun ends this node meanwhile, this node
# was not the cause.
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

# blame_the_dead: write into bad-nodes which of HOSTS have died. A node that lives leaves its exit code, unless all
# that it runs was killed at once. So only of one without a code Slurm is asked.
blame_the_dead() {
  local host
  for host in "${HOSTS[@]}"; do
    [ ! -e "$LOG_DIR/exit-$host" ] || continue
    if is_down "$host" || ! lives "$host"; then blame "$host" "$DEAD"; fi
  done
}

# blame NODE REASON: name a node that the next attempt avoids.
blame() {
  printf '%s\t%s\n' "$1" "$2" >>"$LOG_DIR/bad-nodes"
  echo "jobctl: $1: $2" >&2
}

# is_down NODE: whether Slurm itself takes the node for dead. A star is for one that does not respond.
is_down() {
  local state
  state=$(ask_slurm 20 scontrol show node --oneliner "$1") || return 1
  state=${state#*State=}
  case ${state%% *} in
    DOWN* | *'*'* | *NOT_RESPONDING* | *POWERED_DOWN*) return 0 ;;
    *) return 1 ;;
  esac
}

# lives NODE: whether Slurm can still start a process there. It takes minutes to notice by itself that a node is dead.
# Where it cannot start one on any other of HOSTS either, that says nothing of this one.
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


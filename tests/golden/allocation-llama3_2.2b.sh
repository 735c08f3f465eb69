#!/bin/bash
# llama3_2.2b on h100, tier 1, stage train. Made by jobctl 0.0.0: bash THIS_FILE, in an allocation of Slurm.
set -euo pipefail

# Slurm may signal this shell at any time, so the traps are its first commands.
WARNED=0
TERMINATED=0
trap 'WARNED=1' USR2
trap 'TERMINATED=1' TERM

# --- What: the data of this job. The rest is the same for all jobs of its kind. ------------------------
JOBCTL_ROOT=/shared/jobctl
JOB_ID=${SLURM_JOB_ID:-}
RUN=r
STEP_NAME=jobctl:$RUN
JOB_TARGET='allocation'
JOB_STEP='train'
JOB_READS_CHECKPOINT=''
JOB_STOP_FILE=STOP
JOB_SPEC_HASH=6aabca743a81bd8b
JOB_TRUSTED=(root)
JOB_RECORD='{"format": 3, "spec_hash": "6aabca743a81bd8b", "spec": {"after":[],"arguments":[],"facts":{"allreduce_gb_s":300.0,"allreduce_network_gb_s":100.0,"compute_capability":"9.0","cpus":112,"device":"H100","gpu_product":"NVIDIA-H100-80GB-HBM3","image_variants":["cu124","cu132"],"memory_gib":80.0,"node_memory_gib":1024,"peak_tflops":{"bfloat16":989.0,"float16":989.0,"fp8":1979.0},"shm_gib":128},"hardware":"h100","inputs":{"dataset":"slimpajama_6b","image":"","image_variant":"cu132","sweep_batch_sizes":[],"tokenizer":"llama3"},"kind":"train","model":{"architecture":"llama","bias":false,"head_dim":128,"hidden_size":2048,"initializer_range":0.02,"intermediate_size":7168,"max_position_embeddings":2048,"norm_eps":0.00001,"num_attention_heads":16,"num_hidden_layers":30,"num_key_value_heads":8,"rope_factor":1.0,"rope_high_freq_factor":4.0,"rope_low_freq_factor":1.0,"rope_original_positions":8192,"rope_theta":500000.0,"rope_type":"default","tie_word_embeddings":false,"vocab_size":128256},"model_name":"llama3_2.2b","resources":{"array_limit":0,"gpus_per_node":8,"master_port":0,"max_attempts":50,"nodes":2,"processes_per_node":0,"retries":0,"stop_grace_seconds":300,"time_limit":"24:00:00"},"run":"r","site":{"compile_cache_gib":8.0,"container":{"modules":[],"mounts":[],"runtime":"none","share_image":true},"cpus_per_task":0,"env":{},"exclude":"","modules":[],"nodelist":"","pass_env":[],"preflight":"stop","project_dir":"","python":"","root":"/shared/jobctl","secrets_file":"","slurm":{"account":"","cluster":"","comment":"","constraint":"","core_file_mib":0,"cpu_partition":"","exclusive":true,"gpu_request":"gpus-per-node","gpu_type":"","interface":"","mail_type":"END,FAIL","mail_user":"","memory":"0","open_files":65536,"options":{},"partition":"","qos":"","reservation":"","spare_nodes":0,"srun_options":{}}},"site_name":"local","stage":"train","target":"allocation","tier":1,"train":{"activation_checkpointing":"none","adam_eps":1e-8,"always_save_checkpoint":false,"attention_backend":"auto","batch_size":4,"beta1":0.9,"beta2":0.95,"block_size":2048,"checkpoint_interval":500,"checkpoint_when_busy":"skip","compile":true,"dataloader_num_workers":4,"deterministic":"auto","document_masking":false,"dtype":"bfloat16","eval_interval":500,"eval_iters":20,"eval_only":false,"grad_clip":1.0,"gradient_accumulation_steps":32,"gradient_log_interval":50,"hang_timeout":1800,"init_from":"auto","keep_every_checkpoint":0,"keep_last_checkpoints":2,"kernels":"auto","learning_rate":0.0003,"log_interval":10,"lr_decay_iters":29000,"max_bad_steps":20,"max_iters":2000,"min_lr":0.00003,"optimizer":"adamw","profile":false,"save_checkpoints":true,"seed":1337,"skip_loss_spikes":0.0,"use_cuda_graphs":false,"use_dataloader":false,"use_fp8":false,"use_fsdp":false,"use_zero1":false,"verify_replay":0,"warmup_iters":2000,"weight_decay":0.1},"version":"0.0.0"}}'
JOB_EXPECTED='{"gpus":8,"device":"H100","compute_capability":"9.0","peak_tflops":989.0,"allreduce_gb_s":300.0,"allreduce_network_gb_s":100.0}'
JOB_ANSWER_SECONDS=30
JOB_AT_WARNING='checkpoint'
JOB_AVOIDED_NODES=''
JOB_CORE_KIB=0
JOB_CHOSEN_NODES=''
JOB_KILL_SECONDS=30
JOB_INTERFACE=''
JOB_LAST_WORDS_SECONDS=20
JOB_LIMIT_SECONDS=86400
JOB_MASTER_PORT=0
JOB_NODE_NAME=slurm
JOB_NODES=2
JOB_PREFLIGHT=stop
JOB_OPEN_FILES=65536
JOB_STOP_GRACE_SECONDS=300
DEAD="it died: it left no exit code, and it starts no process"
JOB_SRUN_OPTIONS=(
  '--overlap'
  '--ntasks-per-node=1'
  '--kill-on-bad-exit=1'
  '--cpu-bind=none'
  '--wait=60'
)
JOB_NODE_CHECKS=(
)
CONTAINER_COMMAND=(
)
LAUNCH=(
  --nnodes=2
  --nproc_per_node=8
)
JOB_DATASET=slimpajama_6b-llama3
JOB_FLAGS=(
  --architecture=llama
  --vocab_size=128256
  --hidden_size=2048
  --intermediate_size=7168
  --num_hidden_layers=30
  --num_attention_heads=16
  --num_key_value_heads=8
  --head_dim=128
  --max_position_embeddings=2048
  --rope_theta=500000.0
  --rope_type=default
  --rope_factor=1.0
  --rope_low_freq_factor=1.0
  --rope_high_freq_factor=4.0
  --rope_original_positions=8192
  --bias=False
  --norm_eps=1e-05
  --tie_word_embeddings=False
  --initializer_range=0.02
  --max_iters=2000
  --batch_size=4
  --gradient_accumulation_steps=32
  --block_size=2048
  --optimizer=adamw
  --learning_rate=0.0003
  --min_lr=3e-05
  --warmup_iters=2000
  --lr_decay_iters=29000
  --weight_decay=0.1
  --beta1=0.9
  --beta2=0.95
  --adam_eps=1e-08
  --grad_clip=1.0
  --seed=1337
  --dtype=bfloat16
  --use_fp8=False
  --attention_backend=auto
  --compile=True
  --kernels=auto
  --deterministic=auto
  --use_cuda_graphs=False
  --activation_checkpointing=none
  --document_masking=False
  --use_zero1=False
  --use_fsdp=False
  --use_dataloader=False
  --dataloader_num_workers=4
  --eval_interval=500
  --eval_iters=20
  --eval_only=False
  --log_interval=10
  --gradient_log_interval=50
  --checkpoint_interval=500
  --save_checkpoints=True
  --always_save_checkpoint=False
  --keep_last_checkpoints=2
  --keep_every_checkpoint=0
  --checkpoint_when_busy=skip
  --init_from=auto
  --max_bad_steps=20
  --skip_loss_spikes=0.0
  --hang_timeout=1800
  --verify_replay=0
  --profile=False
)

# The exit codes and their ranks. Of several codes, the one with the lowest rank is the cause.
# shellcheck disable=SC2034 # not every job uses all of them
{
  EXIT_FAILED=1
  EXIT_USAGE=2
  EXIT_TERMINATED=143
  EXIT_CONTINUE=200
  EXIT_HARDWARE=201
  EXIT_RANKS=([2]=0 [201]=1 [129]=2 [130]=2 [134]=4 [200]=5 [75]=6 [1]=7 [143]=8 [0]=9)
  EXIT_SIGNAL_RANK=2
  EXIT_LAST_SIGNAL=192
  EXIT_OTHER_RANK=3
  EXIT_REASONS=([2]=configuration [201]=hardware [129]=cancelled [130]=cancelled [134]=failed [200]=stopped [75]=busy [1]=failed [143]=cancelled [0]=finished)
  EXIT_OTHER_REASON=failed
}

# --- Functions -----------------------------------------------------------------------------------------
# fail WORDS...: print an error, and end with the exit code for wrong usage. No scheduler retries such a job.
fail() {
  printf 'jobctl: %s\n' "$*" >&2
  exit "$EXIT_USAGE"
}

now() {
  date -u +%Y-%m-%dT%H:%M:%SZ
}

# make_shared FOLDER: make the folder for all who may write its parent. It gets the mode of the parent, with the sticky
# bit.
make_shared() {
  [ -d "$1" ] || { mkdir -p "$1" && chmod --reference="${1%/*}" "$1"; } || true
}

# stamp FILE: print a text that changes when FILE is written again. Print nothing if there is no file.
stamp() {
  stat -c '%i %y %s' "$1" 2>/dev/null || true
}

# write_durably FILE: write standard input to FILE. A reader sees the old text or the new text, never half of one.
write_durably() {
  cat >"$1.$$" && sync "$1.$$" && mv -f "$1.$$" "$1"
}

# The table of exit codes is EXIT_RANKS and EXIT_REASONS; jobs/core/exit_codes.py gives the reasons for its order.

# rank_of CODE: print how close the code is to the cause. 0 is the closest.
rank_of() {
  if [ -n "${EXIT_RANKS[$1]:-}" ]; then
    echo "${EXIT_RANKS[$1]}"
  elif is_signal "$1"; then
    echo "$EXIT_SIGNAL_RANK"
  else
    echo "$EXIT_OTHER_RANK"
  fi
}

# cause CODE FILE...: print the exit code that caused the others. Each file has the code of one node or pod. CODE is the
# launcher's exit code. It counts only if no file says more than "finished" or "ended by SIGTERM".
cause() {
  local cause=$1 best code rank
  shift
  if [ "$cause" = 0 ]; then
    best=$(rank_of 0)
  else
    best=$(rank_of "$EXIT_TERMINATED")
  fi

  while read -r code; do
    case $code in '' | *[!0-9]*) continue ;; esac
    rank=$(rank_of "$code")
    if [ "$rank" -lt "$best" ]; then
      best=$rank
      cause=$code
    fi
  done < <(cat -- "$@" 2>/dev/null)
  echo "$cause"
}

# was_cancelled: whether a user has asked this job to stop.
was_cancelled() {
  grep -q '^cancel' "$STOP" 2>/dev/null
}

# is_signal CODE: whether a shell gives this code for a process that a signal ended.
is_signal() {
  [ "$1" -gt 128 ] && [ "$1" -le "$EXIT_LAST_SIGNAL" ]
}

# reason CODE: print the reason for the record of an attempt that ended with CODE. If a cancel killed the process, the
# reason is also "cancelled".
reason() {
  if { [ "$1" = "$EXIT_CONTINUE" ] || is_signal "$1"; } && was_cancelled; then
    echo cancelled
  else
    echo "${EXIT_REASONS[$1]:-$EXIT_OTHER_REASON}"
  fi
}

# Other users may write the shared root too. So the files and folders that this job executes or writes must belong
# to its user or to root. They must not be symbolic links. Nobody else may be able to change them, except the group
# that may write $JOBCTL_ROOT itself. JOB_TRUSTED names more owners; "everyone" allows any owner and any mode.

# check_run: check the run's directory and each file and folder in it, except STOP: anyone may ask a run to stop.
check_run() {
  local path
  check_owned "$RUN_DIR"
  for path in "$RUN_DIR"/* "$RUN_DIR"/.[!.]*; do
    case ${path##*/} in
      STOP | STOP.*) ;;
      *) check_owned "$path" ;;
    esac
  done
}

# check_owned PATH: fail if somebody else may have made this file, or may change it.
check_owned() {
  local mode uid gid user group
  [ ! -L "$1" ] || fail "$1 is a symbolic link, so this job would write to another place"
  case " ${JOB_TRUSTED[*]} " in *" everyone "*) return 0 ;; esac

  [ -e "$1" ] || return 0
  if ! IFS=: read -r mode uid gid user group < <(stat -c %a:%u:%g:%U:%G "$1" 2>/dev/null); then
    [ ! -e "$1" ] || fail "the owner of $1 cannot be read"
    return 0
  fi

  is_trusted "$uid" || fail "$1 belongs to $user ($uid), who can put any code into it; if you trust the owner, use --trust-owner $user"
  if ((8#$mode & 8#002)); then
    fail "everyone can change $1; use chmod o-w, or --trust-owner everyone"
  elif ((8#$mode & 8#020)) && ! is_own_group "$uid" "$gid" "$user" "$group"; then
    fail "group $group can change $1; use chmod g-w, or --trust-owner everyone"
  fi
}

# is_trusted UID: whether this job trusts the files of this owner.
is_trusted() {
  local name
  case $1 in 0 | "$(id -u)") return 0 ;; esac
  for name in "${JOB_TRUSTED[@]}"; do
    if [ "$1" = "$name" ] || [ "$1" = "$(id -u "$name" 2>/dev/null)" ]; then return 0; fi
  done
  return 1
}

# is_own_group UID GID USER GROUP: whether the group may write the root, or is the user's own group, which has the
# user's name.
is_own_group() {
  local mode gid
  IFS=: read -r mode gid < <(stat -L -c %a:%g "$JOBCTL_ROOT") || return 1
  if ((8#$mode & 8#020)) && [ "$gid" = "$2" ]; then return 0; fi
  if [ "$4" = UNKNOWN ]; then [ "$1" = "$2" ]; else [ "$3" = "$4" ]; fi
}

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

# forget_inherited: unset variables for Slurm's commands that do not belong to this job. They come from an allocation in
# which sbatch was called, from a profile, or from --export=NONE. Variables that describe this job stay. No variable of
# this script may begin with one of these prefixes.
forget_inherited() {
  local name
  for name in "${!SLURM_@}" "${!SBATCH_@}" "${!SALLOC_@}" "${!SRUN_@}"; do
    case $name in
      SLURM_JOB_* | SLURM_JOBID | SLURM_ARRAY_* | SLURM_HET_* | SLURM_RESTART_COUNT) ;;
      SLURM_NODELIST | SLURM_NNODES | SLURM_NODEID | SLURM_PROCID | SLURM_LOCALID | SLURM_TASKS_PER_NODE) ;;
      SLURM_CLUSTER_NAME | SLURM_CONF | SLURM_SUBMIT_*) ;;
      # A batch job belongs to the cluster of its node. An allocation may belong to another cluster, so it keeps these.
      SLURM_CLUSTERS | SLURM_WORKING_CLUSTER) [ -n "${STEP_NAME:-}" ] || unset "$name" ;;
      *) unset "$name" ;;
    esac
  done
  # Without this, srun would pass no variables on if sbatch passed none.
  export SLURM_EXPORT_ENV=ALL
}

# cpus_per_node: print how many CPUs the job has on the node where it has the fewest: 8 for "16(x2),8".
cpus_per_node() {
  local cpus fewest=""
  local cpus_of_nodes=${SLURM_JOB_CPUS_PER_NODE:-}
  for cpus in ${cpus_of_nodes//,/ }; do
    cpus=${cpus%%(*}
    if [ -z "$fewest" ] || [ "$cpus" -lt "$fewest" ]; then fewest=$cpus; fi
  done
  echo "${fewest:-1}"
}

# threads RANKS: print each rank's share of a node's CPUs, at most 8. More do not help.
threads() {
  local share=$(($(cpus_per_node) / $1))
  if [ "$share" -gt 8 ]; then share=8; fi
  if [ "$share" -lt 1 ]; then share=1; fi
  echo "$share"
}

# ask_slurm SECONDS COMMAND...: run a command of Slurm until it succeeds, and print its answer. If the controller
# restarts, wait for it, at most SECONDS. Each command has a limit too, because one command may wait for minutes. If the
# controller answers and refuses three times, give up: it would refuse again.
ask_slurm() {
  local answer command deadline limit pause=1 refusals=0
  deadline=$(($(date +%s) + $1))
  limit=$(($1 < 60 ? $1 : 60))
  shift
  command="$1 $2"

  until answer=$(timeout "$limit" "$@" 2>&1); do
    answer=${answer:-no answer}
    if timeout 5 scontrol ping 2>/dev/null | grep -qw UP; then refusals=$((refusals + 1)); fi
    if [ "$refusals" -ge 3 ] || [ "$(date +%s)" -ge "$deadline" ]; then
      echo "jobctl: $command: $answer" >&2
      return 1
    fi
    [ "$pause" != 2 ] || echo "jobctl: $command: waiting for Slurm's controller ($answer)" >&2
    sleep "$pause"
    pause=$((pause < 15 ? pause * 2 : 15))
    limit=$((deadline - $(date +%s)))
    limit=$((limit > 60 ? 60 : limit < 5 ? 5 : limit))
  done
  printf '%s\n' "$answer"
}

# seconds_left: print how long this job may still wait for a controller. If Slurm is ending the job, only KillWait
# remains.
seconds_left() {
  local left=$((END - $(date +%s) - 10))
  if [ "$TERMINATED" = 1 ] || [ "$left" -lt 20 ]; then left=20; fi
  echo "$left"
}

# on_warning: react to USR2. It comes before the time limit, or before Slurm preempts the job.
on_warning() {
  WARNED=1
  case $JOB_AT_WARNING in
    # The trainer sees STOP, checkpoints and ends with EXIT_CONTINUE.
    checkpoint) echo "time limit" >>"$STOP" ;;
    # The next attempt continues from the finished work, so this attempt ends now. The command runs in the background,
    # so that this shell can handle TERM.
    terminate) signal_steps TERM & ;;
    # Its work is not kept, so it uses the remaining time.
    continue) ;;
  esac
}

# leave_early: end a job that was told to end before it began. Otherwise it could start work that cannot end in time.
leave_early() {
  [ "$TERMINATED" = 0 ] || exit "$EXIT_TERMINATED"
  [ ! -e "$STOP" ] || exit "$EXIT_CONTINUE"
  if [ "$WARNED" = 1 ] && [ "$JOB_AT_WARNING" != continue ]; then exit "$EXIT_CONTINUE"; fi
}

# reason_of CODE JOB: print why the attempt ended. JOB is Slurm's record of the job. It shows a preemption: then Slurm
# signals the steps at once, and this shell only after the partition's GraceTime.
reason_of() {
  if [ "$1" != 0 ] && was_cancelled; then echo cancelled && return 0; fi

  case $TERMINATED/$1/$2 in
    */0/*) echo finished ;;
    1/*/*) reason_of_a_kill "$2" ;;
    0/*/*PreemptTime=[0-9]*) echo preempted ;;
    "0/$EXIT_CONTINUE/"*) reason_of_a_stop ;;
    *) reason_of_a_failure "$1" ;;
  esac
}

# reason_of_a_kill JOB: print why Slurm ended the job. Slurm reports every such job as COMPLETING and gives no reason.
reason_of_a_kill() {
  if was_requeued "$1"; then
    reason_of_a_requeue
    return 0
  fi

  case $1 in
    *PreemptTime=[0-9]*) echo preempted ;;
    *) if used_its_time "$1" || clock_is_over; then echo "time limit"; else echo cancelled; fi ;;
  esac
}

# was_requeued JOB: whether Slurm has put the job back into its queue. Then it counts one restart more than when this
# attempt began. If JOB has no count, the answer is yes, so that the job leaves the decision to Slurm.
was_requeued() {
  local restarts=${1#* Restarts=}
  restarts=${restarts%% *}
  case $restarts in
    '' | *[!0-9]*) return 0 ;;
    *) [ "$restarts" -gt "${SLURM_RESTART_COUNT:-0}" ] ;;
  esac
}

# used_its_time JOB: whether the job has used up its time limit.
used_its_time() {
  local run=${1#* RunTime=} limit=${1#* TimeLimit=}
  run=$(seconds_of "${run%% *}") && limit=$(seconds_of "${limit%% *}") && [ "$run" -ge "$limit" ]
}

# clock_is_over: whether a run in an allocation has used up its own time. Slurm counts only the allocation's time. In a
# batch job, END does not explain a kill: an operator may have changed the limit since.
clock_is_over() {
  [ -n "${CLOCK:-}" ] && [ "$(date +%s)" -ge "$END" ]
}

# seconds_of TIME: print DAYS-HOURS:MINUTES:SECONDS as a number of seconds. The days may be missing.
seconds_of() {
  local days=0 hours minutes seconds time=$1
  case $time in
    *[!0-9:-]*) return 1 ;;
    *-*) days=${time%%-*} ;;
  esac
  IFS=: read -r hours minutes seconds <<<"${time#*-}"
  echo "$((((days * 24 + 10#$hours) * 60 + 10#$minutes) * 60 + 10#$seconds))"
}

# reason_of_a_requeue: print why the job was requeued. Slurm requeues a job whose node is down. Otherwise a user did it.
reason_of_a_requeue() {
  local host
  for host in "${HOSTS[@]}"; do
    if is_down "$host"; then
      blame "$host" "Slurm says that it is down"
      echo "node failure"
      return 0
    fi
  done
  echo requeued
}

reason_of_a_stop() {
  if [ "$WARNED" = 0 ]; then
    echo stopped
  elif [ "$(date +%s)" -ge "$((END - JOB_STOP_GRACE_SECONDS - 120))" ]; then
    echo "time limit"
  else
    echo preempted
  fi
}

# reason_of_a_failure CODE: print why the attempt failed. If a node dies, the other nodes fail too, each in its own way.
reason_of_a_failure() {
  if [ "$1" != "$EXIT_USAGE" ] && grep -qs "$DEAD" "$LOG_DIR/bad-nodes"; then
    echo "node failure"
  else
    reason "$1"
  fi
}

# explain_end: set three variables of the caller: code to the exit code that counts, why to the reason, and job to
# Slurm's record of the job.
explain_end() {
  trap '' TERM USR2

  # srun returns 0 for a step that Slurm has killed.
  if [ "$TERMINATED" = 1 ] && [ "$code" = 0 ]; then code=$EXIT_TERMINATED; fi
  if [ "$WARNED" = 1 ] && [ "$JOB_AT_WARNING" = terminate ] && [ "$code" = "$EXIT_TERMINATED" ]; then
    code=$EXIT_CONTINUE
  fi
  if [ "$TERMINATED/$code" != 0/0 ]; then job=$(ask_slurm 20 scontrol show job --local --oneliner "$JOB_ID") || true; fi
  why=$(reason_of "$code" "$job")
}

# checkpoint_name: print the newest checkpoint of the run.
checkpoint_name() {
  cat "$RUN_DIR/checkpoints/LATEST" 2>/dev/null || true
}

# set_limits: let this shell and its children open JOB_OPEN_FILES files at once (0: no change), and write core files of
# JOB_CORE_KIB KiB when they crash. If the node allows less, use its limit and report it. Then set the two variables to
# what this node allows. The other nodes get these values, and report only a limit that is lower still.
set_limits() {
  local allowed
  allowed=$(ulimit -H -n)
  if exceeds "$JOB_OPEN_FILES" "$allowed"; then
    say_limit "a process may open $allowed files, fewer than slurm.open_files ($JOB_OPEN_FILES); see ulimit -H -n"
    JOB_OPEN_FILES=$allowed
  fi
  if exceeds "$JOB_OPEN_FILES" "$(ulimit -S -n)"; then ulimit -S -n "$JOB_OPEN_FILES" || true; fi

  allowed=$(ulimit -H -c)
  if exceeds "$JOB_CORE_KIB" "$allowed"; then
    say_limit "a core file may have $allowed KiB, less than slurm.core_file_mib asks for; see ulimit -H -c"
    JOB_CORE_KIB=$allowed
  fi
  ulimit -S -c "$JOB_CORE_KIB" || true
}

# exceeds LIMIT OTHER: whether LIMIT is more than OTHER. Either may be "unlimited".
exceeds() {
  [ "$2" != unlimited ] || return 1
  [ "$1" = unlimited ] || [ "$1" -gt "$2" ]
}

say_limit() {
  echo "jobctl: ${NODE:-${SLURMD_NODENAME:-this node}}: $1" >&2
}

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


# A job in an allocation that jobctl did not make and does not end. So the job is never requeued, and only the steps of
# this job get signals.

# use_allocation NODES: choose NODES free nodes of the allocation JOB_ID. A node on which another run of jobctl works
# is not free.
use_allocation() {
  local job known=() listed busy="" allowed="" host
  [ -n "$JOB_ID" ] || fail "this shell is in no allocation: SLURM_JOB_ID is not set;" \
    "start one with salloc, or use --target slurm"
  job=$(ask_slurm 60 scontrol show job --oneliner "$JOB_ID") || fail "Slurm does not know the allocation $JOB_ID"
  [ "$(job_value JobState)" = RUNNING ] || fail "the allocation $JOB_ID is $(job_value JobState)"

  # A shell that was opened with ssh knows only the number of its allocation.
  export SLURM_JOB_ID=$JOB_ID
  export SLURM_JOB_NODELIST=${SLURM_JOB_NODELIST:-$(job_value NodeList)}
  if [ -z "${SLURM_JOB_CPUS_PER_NODE:-}" ]; then
    export SLURM_JOB_CPUS_PER_NODE=$(($(job_value NumCPUs) / $(job_value NumNodes)))
  fi

  mapfile -t known < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
  listed=$(squeue --noheader --steps "--jobs=$JOB_ID" --format='%j %N' | grep '^jobctl:' | cut -d ' ' -f 2) || true
  busy=$(names_of "$listed" "$JOB_AVOIDED_NODES" "$(cut -f 1 "$RUN_DIR"/logs/*/bad-nodes 2>/dev/null)")
  allowed=$(names_of "$JOB_CHOSEN_NODES")
  HOSTS=()
  for host in "${known[@]}"; do
    if grep -Fxq -- "$host" <<<"$busy"; then continue; fi
    if [ -n "$allowed" ] && ! grep -Fxq -- "$host" <<<"$allowed"; then continue; fi
    HOSTS+=("$host")
  done
  [ "${#HOSTS[@]}" -ge "$1" ] || fail "this run needs $1 nodes, and the allocation $JOB_ID has" \
    "${#HOSTS[@]} free nodes of ${#known[@]}; the others are excluded, bad, or in use by another run"
  HOSTS=("${HOSTS[@]:0:$1}")
  END=$(end_of_allocation)
}

# job_value NAME: print one value of the caller's $job, an answer of scontrol.
job_value() {
  local value=" $job"
  value=${value#* "$1"=}
  echo "${value%% *}"
}

# names_of LIST...: print the names of the nodes in the lists, one a line.
names_of() {
  local list
  for list in $(printf '%s\n' "$@" | sed 's/,$//'); do
    scontrol show hostnames "$list" || true
  done
}

# end_of_allocation: print the time at which this attempt must end, in seconds since 1970. It is the attempt's own limit
# or the end of the allocation, whichever comes first.
end_of_allocation() {
  local limit end
  limit=$(($(date +%s) + JOB_LIMIT_SECONDS))
  end=$(date -d "$(job_value EndTime)" +%s 2>/dev/null) || end=$limit
  echo "$((end < limit ? end : limit))"
}

# watch_clock: warn this shell before END, and end its steps at END. It runs in the background, because Slurm signals
# only processes that it has started itself.
watch_clock() {
  local grace=$JOB_STOP_GRACE_SECONDS third=$(((END - $(date +%s)) / 3))
  trap 'kill $(jobs -p) 2>/dev/null; exit 0' TERM
  trap '' INT HUP USR2

  # If little time remains, the warning comes when a third of it remains.
  if [ "$grace" -gt "$third" ]; then grace=$third; fi
  doze_until "$((END - grace))"
  kill -USR2 "$$"
  doze_until "$END"
  kill -TERM "$$"
  doze_until "$((END + JOB_KILL_SECONDS))"
  signal_steps KILL
}

# doze_until TIME: wait for a time, in seconds since 1970. A trap interrupts it.
doze_until() {
  local seconds=$(($1 - $(date +%s)))
  sleep "$((seconds > 0 ? seconds : 0))" &
  wait "$!"
}

# on_end: end the steps, because a user ends this run or its time is over. The steps are not children of this shell.
on_end() {
  TERMINATED=1
  signal_steps TERM &
}

# signal_steps SIGNAL: send SIGNAL to the steps of this run, and to no other step of the allocation.
signal_steps() {
  local step name
  while read -r step name; do
    if [ "$name" = "$STEP_NAME" ]; then scancel --quiet "--signal=$1" "$step" || true; fi
  done < <(squeue --noheader --steps "--jobs=$JOB_ID" --format='%i %j')
}

# finish CODE: record how the attempt ended. If the allocation is over, that is the reason.
finish() {
  local code=$1 job="" why
  kill "$CLOCK" 2>/dev/null || true
  explain_end
  case $why/$(job_value JobState) in
    */RUNNING | */) ;;
    "node failure/"* | failed/* | cancelled/*) if ! was_cancelled; then why="allocation ended"; fi ;;
  esac
  end_attempt "$code" "$why"
  exit "$code"
}

# make_private FOLDER: make a folder for files that a job executes. Its parent folder is for all users, so FOLDER must
# belong to this user.
make_private() {
  make_shared "${1%/*}"
  [ -d "$1" ] || mkdir -m 700 "$1" 2>/dev/null || [ -d "$1" ] || fail "$1 cannot be made"
  check_owned "$1"
}

# meet ID NUMBER: let torchrun's nodes meet at an address of the first node. Two meetings of one job have different
# NUMBERs, and so different ports.
meet() {
  local place address port
  place=$(meeting_place "$2") ||
    fail "node ${HOSTS[0]} has no address that the other nodes can reach, or no free port;" \
      "set slurm.interface or master_port"
  read -r address port <<<"$place"
  LAUNCH+=("--nnodes=${#HOSTS[@]}" --rdzv_backend=c10d "--rdzv_endpoint=$address:$port" "--rdzv_id=$1")
}

# meeting_place NUMBER: print an address of the first node that the other HOSTS can reach, and a free port of that node.
meeting_place() {
  local values
  local functions
  if [ "${HOSTS[0]}" = "$SLURMD_NODENAME" ]; then
    own_place "$1" "${HOSTS[1]:-}"
  else
    values=$(declare -p JOB_INTERFACE JOB_MASTER_PORT SLURM_JOB_ID)
    functions=$(declare -f own_place address_towards node_address meeting_port free_port)
    timeout --kill-after=5 60 srun --overlap "--nodelist=${HOSTS[0]}" --nodes=1 --ntasks=1 --mem=0 --gres=none \
      bash -c "$values; $functions; own_place $1 ${HOSTS[1]:-}"
  fi
}

# own_place NUMBER [OTHER_NODE]: print this node's address for connections with the other node, and a free port.
own_place() {
  local address=127.0.0.1
  local port
  if [ -n "${2:-}" ]; then address=$(address_towards "$2") || return 1; fi
  port=$(meeting_port "$1") || return 1
  echo "$address $port"
}

# address_towards NODE: print the address from which this node reaches another node. A node's name is not enough: on the
# node itself it may mean 127.0.1.1, and other nodes may not know it.
address_towards() {
  local address="" other PATH=$PATH:/usr/sbin:/sbin
  if [ -n "$JOB_INTERFACE" ]; then
    address=$(ip -o -4 addr show dev "$JOB_INTERFACE" | grep -o 'inet [0-9.]*') || true
  else
    other=$(node_address "$1") || true
    address=$(ip -o -4 route get "$other" 2>/dev/null | grep -o 'src [0-9.]*') || address="any $(hostname -I)" || true
  fi
  read -r _ address _ <<<"$address" || true
  case $address in '' | 127.*) return 1 ;; esac
  echo "$address"
}

# node_address NODE: print the address at which Slurm reaches a node.
node_address() {
  local address
  address=$(scontrol show node --oneliner "$1" 2>/dev/null | grep -o ' NodeAddr=[^ ]*') || address="=$1"
  getent ahostsv4 "${address#*=}" | { read -r address _ && echo "$address"; }
}

# meeting_port NUMBER: print a free port. Linux gives the ports of a range to connections, and may do so before torchrun
# listens. So the port is outside that range, unless the user has chosen it.
meeting_port() {
  local low=32768 high=60999 first=20000 last=29999
  read -r low high </proc/sys/net/ipv4/ip_local_port_range || true
  if [ "$JOB_MASTER_PORT" -gt 0 ]; then
    first=$JOB_MASTER_PORT
    last=65535
    if [ "$first" -ge "$low" ] && [ "$first" -le "$high" ]; then
      echo "jobctl: master_port $first is in the range that Linux gives to connections here ($low to $high);" \
        "choose one outside it" >&2
    fi
    free_port "$first" "$last" "$1"
    return
  fi

  if [ "$low" -le "$last" ]; then
    # Use the larger of the two parts outside the range. Ports below 1024 are for root.
    first=1024
    last=$((low - 1))
    if [ "$((65535 - high))" -gt "$((low - 1024))" ]; then
      first=$((high + 1))
      last=65535
    fi
    if [ "$last" -lt "$((first + 100))" ]; then
      echo "jobctl: Linux gives almost all ports to connections here ($low to $high); choose one with master_port" >&2
      first=20000
      last=29999
    fi
  fi
  free_port "$first" "$last" "$((SLURM_JOB_ID + $1))"
}

# free_port FIRST LAST NUMBER: print a port from FIRST to LAST that no connection or server of this node uses. NUMBER
# sets where the search begins.
free_port() {
  local port tries count=$(($2 - $1 + 1))
  for ((tries = 0; tries < count; tries++)); do
    port=$(($1 + ($3 + tries) % count))
    if ! grep -qsE ": [0-9A-F]+:$(printf %04X "$port") " /proc/net/tcp /proc/net/tcp6; then
      echo "$port"
      return 0
    fi
  done
  return 1
}

# check_nodes: check which of HOSTS are fit, and keep as many fit nodes as the job needs.
check_nodes() {
  local host good=() LAUNCH=("${LAUNCH[@]}")
  meet "$SLURM_JOB_ID-preflight" 1
  run "$PYTHON" -m jobctl.trainer.preflight "${LAUNCH[@]}" -- "${PREFLIGHT[@]}" "--hosts=$(hosts)" ||
    [ -e "$LOG_DIR/bad-nodes" ] || echo "jobctl: the preflight failed, but found no bad node; the job continues"
  [ "$TERMINATED" = 0 ] || exit "$EXIT_TERMINATED"

  for host in "${HOSTS[@]}"; do
    grep -q "^$host"$'\t' "$LOG_DIR/bad-nodes" 2>/dev/null || good+=("$host")
  done
  if [ "${#good[@]}" -lt "$JOB_NODES" ] && [ "$JOB_PREFLIGHT" = stop ]; then
    echo "jobctl: ${#good[@]} nodes are fit, $JOB_NODES are needed; to run anyway: --set preflight=report"
    exit "$EXIT_HARDWARE"
  fi
  if [ "${#good[@]}" -ge "$JOB_NODES" ]; then HOSTS=("${good[@]}"); fi
  HOSTS=("${HOSTS[@]:0:$JOB_NODES}")
  echo "jobctl: training on ${HOSTS[*]}"
}

# --- Where: the nodes, the run's directory, and the environment of the payload. ------------------------
forget_inherited
RUN_DIR=$JOBCTL_ROOT/runs/$RUN
STOP=$RUN_DIR/$JOB_STOP_FILE
use_allocation 2
NODES=$(hosts)
# A shell that is on no node of Slurm has no such name.
SLURMD_NODENAME=${SLURMD_NODENAME:-}
JOB_SRUN_OPTIONS+=("--job-name=$STEP_NAME")
CACHE=$JOBCTL_ROOT/cache/$(id -un)
THREADS=$(threads 8)
export NCCL_DEBUG=WARN
export JOBCTL_CACHE="$CACHE"
export JOBCTL_CACHE_GIB=8
export OMP_NUM_THREADS="$THREADS"
export PYTHONSAFEPATH=1
export PYTHONUNBUFFERED=1
export PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True
PYTHON=${JOBCTL_PYTHON:-python3}
set_limits
ulimit -l unlimited 2>/dev/null || echo "jobctl: this node limits pinned memory (ulimit -l $(ulimit -l))" >&2
make_private "$CACHE"

# --- Record: take an attempt's number, and record its end however it ends. -----------------------------
begin_attempt
printf 'jobctl: run %s, attempt %s; log: %s\n' "$RUN" "$ATTEMPT" "$LOG_DIR/batch.log"
exec >>"$LOG_DIR/batch.log" 2>&1
FIRST_CHECKPOINT=$(checkpoint_name)
# Slurm does not warn a script in an allocation before the script's time limit.
watch_clock &
CLOCK=$!
trap on_end TERM INT HUP
trap 'finish $?' EXIT
trap on_warning USR2
leave_early

TRAINER=(
  --model_name=llama3_2.2b
  "--run_dir=$RUN_DIR"
  "--attempt=$ATTEMPT"
  "--dataset=$JOBCTL_ROOT/datasets/$JOB_DATASET"
  # Not auto: a node whose GPUs are broken would train on its CPU.
  --device=cuda
  "${JOB_FLAGS[@]}"
)
PREFLIGHT=("--run_dir=$RUN_DIR" "--attempt=$ATTEMPT" "--expect=$JOB_EXPECTED")

# --- Check: which of the nodes are fit. ----------------------------------------------------------------
check_nodes

# --- Run -----------------------------------------------------------------------------------------------
meet "$SLURM_JOB_ID" 0
run "$PYTHON" -m jobctl.trainer.launch "${LAUNCH[@]}" -- "${TRAINER[@]}"

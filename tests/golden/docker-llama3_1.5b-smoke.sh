#!/bin/bash
# llama3_1.5b on b200, tier 1, stage smoke, in a container on this machine. Made by jobctl 0.0.0; it needs bash, coreutils and Docker or Podman.
set -euo pipefail

# --- What: the data of this job. The rest is the same for all jobs of its kind. ------------------------
JOBCTL_ROOT=/shared/jobctl
RUN=llama3_1.5b-smoke-$(date -u +%Y%m%d-%H%M%S)-$$
JOB_TARGET='docker'
JOB_STEP='train'
JOB_READS_CHECKPOINT=''
JOB_STOP_FILE=STOP
JOB_SPEC_HASH=f0611369e771cc8e
JOB_TRUSTED=(root)
JOB_RECORD='{"format": 3, "spec_hash": "f0611369e771cc8e", "spec": {"after":[],"arguments":[],"facts":{"allreduce_gb_s":550.0,"allreduce_network_gb_s":100.0,"compute_capability":"10.0","cpus":224,"device":"B200","gpu_product":"NVIDIA-B200","image_variants":["cu132"],"memory_gib":180.0,"node_memory_gib":2048,"peak_tflops":{"bfloat16":2250.0,"float16":2250.0,"fp8":4500.0},"shm_gib":256},"hardware":"b200","inputs":{"dataset":"slimpajama_6b","image":"","image_variant":"cu132","sweep_batch_sizes":[],"tokenizer":"llama3"},"kind":"train","model":{"architecture":"llama","bias":false,"head_dim":128,"hidden_size":2048,"initializer_range":0.02,"intermediate_size":7168,"max_position_embeddings":2048,"norm_eps":0.00001,"num_attention_heads":16,"num_hidden_layers":18,"num_key_value_heads":8,"rope_factor":1.0,"rope_high_freq_factor":4.0,"rope_low_freq_factor":1.0,"rope_original_positions":8192,"rope_theta":500000.0,"rope_type":"default","tie_word_embeddings":false,"vocab_size":128256},"model_name":"llama3_1.5b","resources":{"array_limit":0,"gpus_per_node":1,"master_port":0,"max_attempts":50,"nodes":1,"processes_per_node":0,"retries":0,"stop_grace_seconds":300,"time_limit":"0:30:00"},"run":null,"site":{"compile_cache_gib":8.0,"container":{"modules":[],"mounts":[],"runtime":"none","share_image":true},"cpus_per_task":0,"env":{},"exclude":"","modules":[],"nodelist":"","pass_env":[],"preflight":"stop","project_dir":"","python":"","root":"/shared/jobctl","secrets_file":""},"site_name":"local","stage":"smoke","target":"docker","tier":1,"train":{"activation_checkpointing":"none","adam_eps":1e-8,"always_save_checkpoint":false,"attention_backend":"auto","batch_size":2,"beta1":0.9,"beta2":0.95,"block_size":2048,"checkpoint_interval":0,"checkpoint_when_busy":"skip","compile":false,"dataloader_num_workers":4,"deterministic":"auto","document_masking":false,"dtype":"bfloat16","eval_interval":10,"eval_iters":2,"eval_only":false,"grad_clip":1.0,"gradient_accumulation_steps":1,"gradient_log_interval":50,"hang_timeout":1800,"init_from":"auto","keep_every_checkpoint":0,"keep_last_checkpoints":2,"kernels":"auto","learning_rate":0.0003,"log_interval":1,"lr_decay_iters":50000,"max_bad_steps":20,"max_iters":10,"min_lr":0.00003,"optimizer":"adamw","profile":false,"save_checkpoints":true,"seed":1337,"skip_loss_spikes":0.0,"use_cuda_graphs":false,"use_dataloader":false,"use_fp8":false,"use_fsdp":false,"use_zero1":false,"verify_replay":0,"warmup_iters":2000,"weight_decay":0.1},"version":"0.0.0"}}'
LAUNCH=(
  --nnodes=1
  --nproc_per_node=1
)
JOB_DATASET=slimpajama_6b-llama3
JOB_FLAGS=(
  --architecture=llama
  --vocab_size=128256
  --hidden_size=2048
  --intermediate_size=7168
  --num_hidden_layers=18
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
  --max_iters=10
  --batch_size=2
  --gradient_accumulation_steps=1
  --block_size=2048
  --optimizer=adamw
  --learning_rate=0.0003
  --min_lr=3e-05
  --warmup_iters=2000
  --lr_decay_iters=50000
  --weight_decay=0.1
  --beta1=0.9
  --beta2=0.95
  --adam_eps=1e-08
  --grad_clip=1.0
  --seed=1337
  --dtype=bfloat16
  --use_fp8=False
  --attention_backend=auto
  --compile=False
  --kernels=auto
  --deterministic=auto
  --use_cuda_graphs=False
  --activation_checkpointing=none
  --document_masking=False
  --use_zero1=False
  --use_fsdp=False
  --use_dataloader=False
  --dataloader_num_workers=4
  --eval_interval=10
  --eval_iters=2
  --eval_only=False
  --log_interval=1
  --gradient_log_interval=50
  --checkpoint_interval=0
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
IMAGE=jobctl:0.0.0-cu132
JOB_IMAGE_VARIANT=cu132
JOB_GPUS=yes
JOB_OPTIONS=(
  --workdir=/workspace
  --security-opt=label=disable
  --security-opt=no-new-privileges
  --network=none
  --shm-size=256g
  --stop-signal=TERM
  --stop-timeout=300
  --env=OMP_NUM_THREADS=8
  --env=PYTHONSAFEPATH=1
  --env=PYTHONUNBUFFERED=1
  --env=PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True
  --env=CUDA_VISIBLE_DEVICES
  --env=JOBCTL_ROOT
  --env=RUN
  --env=RUN_DIR
  --env=ATTEMPT
)
# NCCL pins the memory that it sends from.
LIMITS=(--ulimit=memlock=-1:-1 --ulimit=stack=67108864:67108864)

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

# record_output: copy standard input to the log, and to the terminal unless JOBCTL_QUIET is set.
record_output() {
  trap '' TERM INT HUP
  if [ -n "${JOBCTL_QUIET:-}" ]; then
    exec cat >>"$LOG_DIR/batch.log"
  else
    exec tee -a "$LOG_DIR/batch.log"
  fi
}

answers() {
  command -v "$1" >/dev/null && "$1" ps --quiet >/dev/null 2>&1
}

# ask ARGUMENT...: run a command of the engine and print its answer. If the command fails, end the job.
ask() {
  "$ENGINE" "$@" 2>&1 || fail "$ENGINE $1 failed with exit code $?"
}

# silence ENGINE: print why ENGINE does not answer.
silence() {
  if command -v "$1" >/dev/null; then
    "$1" ps --quiet 2>&1 >/dev/null | tail -n 1
  else
    echo "$1 is not installed"
  fi
}

# find_engine: set ENGINE to $JOBCTL_ENGINE, or to the first engine that answers.
find_engine() {
  if [ -n "${JOBCTL_ENGINE:-}" ]; then
    answers "$JOBCTL_ENGINE" || fail "JOBCTL_ENGINE=$JOBCTL_ENGINE does not answer: $(silence "$JOBCTL_ENGINE")"
    ENGINE=$JOBCTL_ENGINE
  elif answers docker; then
    ENGINE=docker
  elif answers podman; then
    ENGINE=podman
  else
    fail "neither docker nor podman answers on this machine ($(silence docker); $(silence podman)):" \
      "start one, or take --target local"
  fi
  ENGINE_VERSION=$(ask --version) || exit
}

# check_gpus: check that the engine can give GPUs to a container.
check_gpus() {
  local problem
  case $ENGINE_VERSION in *odman*) ;; *) return 0 ;; esac
  problem=$(check_cdi) || fail "$problem"
}

check_image() {
  local answer
  answer=$("$ENGINE" image inspect "$IMAGE" 2>&1 >/dev/null) ||
    fail "$ENGINE has no image $IMAGE (${answer##*$'\n'}); build it with: make image VARIANT=$JOB_IMAGE_VARIANT"
}

# add_engine_options: add the options for the GPUs, the limits and the owner of the files. They differ by engine.
add_engine_options() {
  case $ENGINE_VERSION in
    *odman*) add_podman_options ;;
    *) add_docker_options ;;
  esac
}

add_podman_options() {
  if [ -n "$JOB_GPUS" ]; then OPTIONS+=(--device=nvidia.com/gpu=all); fi
  [ "$(id -u)" = 0 ] || OPTIONS+=(--userns=keep-id)
  # A health check would need systemd, and the record of the run says more.
  OPTIONS+=(--no-healthcheck)
  if [ -n "$JOB_GPUS" ] && (ulimit -l unlimited) 2>/dev/null; then
    OPTIONS+=("${LIMITS[@]}")
  else
    OPTIONS+=(--ulimit=host)
  fi
  OPTIONS+=("--user=$(id -u):$(id -g)")
}

# docker_gpus INFO: print Docker's option for all GPUs. It names CDI devices if Docker knows CDI, and the machine has
# NVIDIA's CDI file but no other software of NVIDIA for containers.
docker_gpus() {
  case $1 in
    # This matches the name of a runtime, not that of a device.
    *Runtimes:*' nvidia '* | *Runtimes:*' nvidia'$'\n'*) echo --gpus=all ;;
    *'CDI spec directories'*)
      if ! command -v nvidia-container-runtime-hook >/dev/null && check_cdi >/dev/null; then
        echo --device=nvidia.com/gpu=all
      else
        echo --gpus=all
      fi
      ;;
    *) echo --gpus=all ;;
  esac
}

add_docker_options() {
  local user
  local info
  user=$(id -u):$(id -g)
  info=$(ask info) || exit
  if [ -n "$JOB_GPUS" ]; then OPTIONS+=("$(docker_gpus "$info")"); fi
  # A rootless daemon maps the caller to the container's root.
  case $info in *rootless*) user=0:0 ;; esac
  # If root cannot raise its limits here, the daemon on this machine cannot do so either.
  if [ -n "$JOB_GPUS" ] && { [ "$(id -u)" != 0 ] || (ulimit -l unlimited) 2>/dev/null; }; then
    OPTIONS+=("${LIMITS[@]}")
  fi
  OPTIONS+=("--user=$user")
}

# stop_container: pass a signal on. The trainer in the container sees STOP, a job of another kind gets SIGTERM. This
# shell runs until the container has ended.
stop_container() {
  echo "signalled" >>"$STOP"
  "$ENGINE" kill --signal=TERM "$NAME" >/dev/null 2>&1 || true
}

# check_cdi: print an error if NVIDIA's CDI file is missing. Podman needs it for GPUs, but its own error does not
# say so.
check_cdi() {
  local folder
  for folder in ${JOBCTL_CDI_DIRS:-/etc/cdi /var/run/cdi}; do
    ! grep -qs 'nvidia.com/gpu' "$folder"/*.yaml "$folder"/*.json || return 0
  done
  echo "podman has no CDI file for NVIDIA's GPUs in ${JOBCTL_CDI_DIRS:-/etc/cdi and /var/run/cdi}; make it with:" \
    "sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml (for another folder, set JOBCTL_CDI_DIRS)"
  return 1
}

# run COMMAND...: run COMMAND in a container, and return its exit code.
run() {
  [ ! -e "$STOP" ] || return "$EXIT_CONTINUE"
  # The engine's client gets its own process group, so that signals do not reach it: at the third signal Docker's
  # client would exit. This shell passes signals on.
  set -m
  supervise "$ENGINE" run "${OPTIONS[@]}" "$IMAGE" "$@" > >(record_output) 2>&1
}

# --- Where: the container engine, and the run's directory on this machine. -----------------------------
RUN_DIR=$JOBCTL_ROOT/runs/$RUN
STOP=$RUN_DIR/$JOB_STOP_FILE
find_engine
check_gpus
check_image
NAME=jobctl-$RUN-$$
JOB_ID=$ENGINE:$NAME
NODES=$(uname -n)
PYTHON=python3

# --- Record: take an attempt's number, and record its end however it ends. -----------------------------
# A signal must not end this shell before the attempt has its record and says how it ends.
trap '' TERM INT HUP
begin_attempt
# From here on, paths are paths inside the container. end_attempt uses the paths of the machine.
HOST_ROOT=$JOBCTL_ROOT
HOST_RUN_DIR=$RUN_DIR
JOBCTL_ROOT=/workspace
RUN_DIR=/workspace/runs/$RUN
trap 'code=$?; trap "" TERM INT HUP; RUN_DIR=$HOST_RUN_DIR; end_attempt "$code"' EXIT
trap stop_container TERM INT HUP

# --- Run -----------------------------------------------------------------------------------------------
OPTIONS=(
  --rm
  "--name=$NAME"
  "--label=jobctl.run=$HOST_RUN_DIR"
  "--volume=$HOST_ROOT:/workspace"
  "${JOB_OPTIONS[@]}"
)
add_engine_options
TRAINER=(
  --model_name=llama3_1.5b
  "--run_dir=$RUN_DIR"
  "--attempt=$ATTEMPT"
  "--dataset=$JOBCTL_ROOT/datasets/$JOB_DATASET"
  # Not auto: a node whose GPUs are broken would train on its CPU.
  --device=cuda
  "${JOB_FLAGS[@]}"
)
LAUNCH+=(--standalone)
run "$PYTHON" -m jobctl.trainer.launch "${LAUNCH[@]}" -- "${TRAINER[@]}"

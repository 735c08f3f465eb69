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

# The exit codes; and of several, which one is the cause: the one with the lowest rank.
# shellcheck disable=SC2034 # not every job needs every one
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
# fail WORDS...: say what is wrong, and end as wrong usage, which no scheduler retries.
fail() {
  printf 'jobctl: %s\n' "$*" >&2
  exit "$EXIT_USAGE"
}

now() {
  date -u +%Y-%m-%dT%H:%M:%SZ
}

# make_shared FOLDER: make the folder for all who may write the one above: with its mode, sticky bit included.
make_shared() {
  [ -d "$1" ] || { mkdir -p "$1" && chmod --reference="${1%/*}" "$1"; } || true
}

# stamp FILE: print what changes when FILE is written again; nothing where there is no file.
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

# cause CODE FILE...: print the exit code that led to the others. Each file holds the code of one node or pod.
# CODE is what the launcher says. It counts where no file says more than "finished" or "ended by SIGTERM".
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

# reason CODE: print what the record says about an attempt that ended with this code. A process that a cancel killed
# before it could say anything was cancelled as well.
reason() {
  if { [ "$1" = "$EXIT_CONTINUE" ] || is_signal "$1"; } && was_cancelled; then
    echo cancelled
  else
    echo "${EXIT_REASONS[$1]:-$EXIT_OTHER_REASON}"
  fi
}

# Others may write the shared root as well. What this job executes or writes into must belong to its user or to root.
# It must be no symbolic link, and nobody else may change it, except the group to which $JOBCTL_ROOT itself is open.
# JOB_TRUSTED names more owners; "everyone" allows any owner and any mode.

# check_run: check the run's directory and each file and folder in it. STOP is left out: anyone may ask a run to stop.
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

# check_owned PATH: fail where somebody else may have put this file there, or may change it.
check_owned() {
  local mode uid gid user group
  [ ! -L "$1" ] || fail "$1 is a symbolic link: what is written there would go elsewhere"
  case " ${JOB_TRUSTED[*]} " in *" everyone "*) return 0 ;; esac

  [ -e "$1" ] || return 0
  if ! IFS=: read -r mode uid gid user group < <(stat -c %a:%u:%g:%U:%G "$1" 2>/dev/null); then
    [ ! -e "$1" ] || fail "$1 cannot be looked at"
    return 0
  fi

  is_trusted "$uid" || fail "$1 belongs to $user ($uid), who may have put anything there; --trust-owner $user allows it"
  if ((8#$mode & 8#002)); then
    fail "$1 may be changed by everyone; chmod o-w, or --trust-owner everyone"
  elif ((8#$mode & 8#020)) && ! is_own_group "$uid" "$gid" "$user" "$group"; then
    fail "$1 may be changed by group $group; chmod g-w, or --trust-owner everyone"
  fi
}

# is_trusted UID: whether a file of this owner is one of ours.
is_trusted() {
  local name
  case $1 in 0 | "$(id -u)") return 0 ;; esac
  for name in "${JOB_TRUSTED[@]}"; do
    if [ "$1" = "$name" ] || [ "$1" = "$(id -u "$name" 2>/dev/null)" ]; then return 0; fi
  done
  return 1
}

# is_own_group UID GID USER GROUP: whether it is the group that the root is open to, or the user's own group, which has
# the user's name.
is_own_group() {
  local mode gid
  IFS=: read -r mode gid < <(stat -L -c %a:%g "$JOBCTL_ROOT") || return 1
  if ((8#$mode & 8#020)) && [ "$gid" = "$2" ]; then return 0; fi
  if [ "$4" = UNKNOWN ]; then [ "$1" = "$2" ]; else [ "$3" = "$4" ]; fi
}

# write_record: write run.json, once for all attempts.
write_record() {
  printf '%s\n' "$JOB_RECORD" | write_durably "$RUN_DIR/.run.json"
  # Of several writers, one makes the link; the others keep what it made.
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

# begin_attempt: make the run directory where it is missing, and take the next number of an attempt in it.
begin_attempt() {
  make_run_folders
  check_record

  # mkdir succeeds for one of several jobs that want the same number.
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

# forget_old_stop: remove a STOP that an earlier attempt has obeyed, or in which only a job and not a person has
# written why it ends. Any other one is a wish for this attempt, also where it came while the job waited.
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
  # Look before anything is written there.
  check_run
  mkdir -p "$RUN_DIR/attempts" "$RUN_DIR/logs" || fail "$JOBCTL_ROOT cannot be written; set JOBCTL_ROOT"
}

# check_record: fail where the directory belongs to a run with other settings.
check_record() {
  if [ -n "$JOB_READS_CHECKPOINT" ]; then
    [ -e "$RUN_DIR/run.json" ] || fail "run $RUN does not exist; this job reads the checkpoint of a run"
    return 0
  fi
  [ -e "$RUN_DIR/run.json" ] || write_record
  grep -Fq "\"spec_hash\": \"$JOB_SPEC_HASH\"" "$RUN_DIR/run.json" ||
    fail "run $RUN exists and was made with other settings; take another name with --run"
}

# end_attempt EXIT_CODE [REASON]: complete the record of this attempt.
end_attempt() {
  [ ! -e "$STOP" ] || stamp "$STOP" >"$LOG_DIR/.obeyed"
  write_attempt "\"$(now)\"" "$1" "\"${2:-$(reason "$1")}\""
}

# keep_code FILE COMMAND...: run COMMAND, return its exit code and leave the code in FILE. Signals to this shell do not
# end it. Bash may lose the code of a child that ends while a signal interrupts wait (bash 5.2 answers -1). So the
# child's own shell writes the code down: there the command is in the foreground, and nothing interrupts it.
# While COMMAND runs, kept_pid prints its process id.
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

# supervise COMMAND...: run COMMAND and return its exit code, whatever signals arrive meanwhile.
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

# ask ARGUMENT...: print what the engine answers, or end the job. A question without an answer is no answer.
ask() {
  "$ENGINE" "$@" 2>&1 || fail "$ENGINE $1 ended with $?"
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

# check_gpus: look for what the engine needs to show GPUs.
check_gpus() {
  local problem
  case $ENGINE_VERSION in *odman*) ;; *) return 0 ;; esac
  problem=$(check_cdi) || fail "$problem"
}

check_image() {
  local answer
  answer=$("$ENGINE" image inspect "$IMAGE" 2>&1 >/dev/null) ||
    fail "$ENGINE shows no image $IMAGE (${answer##*$'\n'}); make it: make image VARIANT=$JOB_IMAGE_VARIANT"
}

# add_engine_options: add what each engine needs in its own words: the GPUs, the limits, and the owner of the files.
add_engine_options() {
  case $ENGINE_VERSION in
    *odman*) add_podman_options ;;
    *) add_docker_options ;;
  esac
}

add_podman_options() {
  if [ -n "$JOB_GPUS" ]; then OPTIONS+=(--device=nvidia.com/gpu=all); fi
  [ "$(id -u)" = 0 ] || OPTIONS+=(--userns=keep-id)
  # A health check would need systemd, and the run's record says more.
  OPTIONS+=(--no-healthcheck)
  if [ -n "$JOB_GPUS" ] && (ulimit -l unlimited) 2>/dev/null; then
    OPTIONS+=("${LIMITS[@]}")
  else
    OPTIONS+=(--ulimit=host)
  fi
  OPTIONS+=("--user=$(id -u):$(id -g)")
}

# docker_gpus INFO: print Docker's option for all GPUs. A Docker that knows CDI, on a machine that has NVIDIA's CDI file
# and nothing else of NVIDIA's for containers, takes them as devices.
docker_gpus() {
  case $1 in
    # The runtime's name, and not that of a device.
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
  # Where root itself cannot raise its limits, the daemon beside it cannot either.
  if [ -n "$JOB_GPUS" ] && { [ "$(id -u)" != 0 ] || (ulimit -l unlimited) 2>/dev/null; }; then
    OPTIONS+=("${LIMITS[@]}")
  fi
  OPTIONS+=("--user=$user")
}

# stop_container: pass a signal on. The trainer in the container sees STOP, a job of another kind sees SIGTERM. This
# shell outlives both.
stop_container() {
  echo "signalled" >>"$STOP"
  "$ENGINE" kill --signal=TERM "$NAME" >/dev/null 2>&1 || true
}

# check_cdi: Podman gets GPUs only by the CDI file of NVIDIA. Without it, it ends in a message that names neither.
check_cdi() {
  local folder
  for folder in ${JOBCTL_CDI_DIRS:-/etc/cdi /var/run/cdi}; do
    ! grep -qs 'nvidia.com/gpu' "$folder"/*.yaml "$folder"/*.json || return 0
  done
  echo "podman has no CDI file for NVIDIA's GPUs in ${JOBCTL_CDI_DIRS:-/etc/cdi and /var/run/cdi}; make it:" \
    "sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml (elsewhere: set JOBCTL_CDI_DIRS)"
  return 1
}

# run COMMAND...: run COMMAND in a container, and return its exit code.
run() {
  [ ! -e "$STOP" ] || return "$EXIT_CONTINUE"
  # The engine's client gets a process group of its own. This shell passes signals on, and at the third signal
  # Docker's client would leave.
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
# From here on, paths are those inside the container. end_attempt writes to the machine's own.
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
  "${JOB_FLAGS[@]}"
)
LAUNCH+=(--standalone)
run "$PYTHON" -m jobctl.trainer.launch "${LAUNCH[@]}" -- "${TRAINER[@]}"

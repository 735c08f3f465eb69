#!/bin/bash
# llama3_1.5b on b200, tier 1, stage smoke, in a container on this machine. Made by jobctl 0.0.0; it needs bash, coreutils and Docker or Podman.
set -euo pipefail

JOBCTL_ROOT=/shared/jobctl
RUN=llama3_1.5b-smoke-$(date -u +%Y%m%d-%H%M%S)-$$
RUN_DIR=$JOBCTL_ROOT/runs/$RUN
IMAGE=jobctl:0.0.0-cu132

# --- the run directory: its record, and this attempt's own ---------------------------------------------
STOP=$RUN_DIR/STOP

fail() { printf 'jobctl: %s\n' "$*" >&2; exit 2; }

# Others may write the shared root as well. What this job executes or writes into has to be its user's or root's, no link,
# and nobody else's to change but that group's to which $JOBCTL_ROOT itself is open.
check_run() {
  local path
  check_owned "$RUN_DIR"
  for path in "$RUN_DIR"/* "$RUN_DIR"/.[!.]*; do
    case ${path##*/} in STOP | STOP.*) ;; *) check_owned "$path" ;; esac # anyone may ask a run to stop
  done
}

check_owned() {
  [ ! -L "$1" ] || fail "$1 is a symbolic link: what is written there would go elsewhere"
  [ -e "$1" ] || return 0
  local mode uid gid user group
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

is_trusted() {
  case $1 in 0 | "$(id -u)") return 0 ;; esac
  return 1
}

# is_own_group UID GID USER GROUP: the group that the root is open to, or one of the user's own, which has the user's name.
is_own_group() {
  local mode gid
  IFS=: read -r mode gid < <(stat -L -c %a:%g "$JOBCTL_ROOT") || return 1
  if ((8#$mode & 8#020)) && [ "$gid" = "$2" ]; then return 0; fi
  if [ "$4" = UNKNOWN ]; then [ "$1" = "$2" ]; else [ "$3" = "$4" ]; fi
}

# make_shared FOLDER: for whoever may write the folder above it, with that one's mode, sticky bit and all.
make_shared() {
  [ -d "$1" ] || { mkdir -p "$1" && chmod --reference="${1%/*}" "$1"; } || true
}

now() { date -u +%Y-%m-%dT%H:%M:%SZ; }

# Written aside, synced, renamed: a reader sees the old text or the new, never half of one.
write_durably() {
  cat >"$1.$$" && sync "$1.$$" && mv -f "$1.$$" "$1"
}

write_record() {
  write_durably "$RUN_DIR/.run.json" <<'JOBCTL_RECORD'
{"format": 2, "spec_hash": "f0611369e771cc8e", "spec": {"after":[],"arguments":[],"facts":{"allreduce_gb_s":550.0,"allreduce_network_gb_s":100.0,"compute_capability":"10.0","cpus":224,"device":"B200","gpu_product":"NVIDIA-B200","image_variants":["cu132"],"memory_gib":180.0,"node_memory_gib":2048,"peak_tflops":{"bfloat16":2250.0,"float16":2250.0,"fp8":4500.0},"shm_gib":256},"hardware":"b200","inputs":{"dataset":"slimpajama_6b","image":"","image_variant":"cu132","sweep_batch_sizes":[],"tokenizer":"llama3"},"kind":"train","model":{"architecture":"llama","head_dim":128,"hidden_size":2048,"initializer_range":0.02,"intermediate_size":7168,"max_position_embeddings":2048,"norm_eps":0.00001,"num_attention_heads":16,"num_hidden_layers":18,"num_key_value_heads":8,"rope_theta":500000.0,"tie_word_embeddings":false,"vocab_size":128256},"model_name":"llama3_1.5b","resources":{"array_limit":0,"gpus_per_node":1,"master_port":0,"max_attempts":50,"nodes":1,"processes_per_node":0,"retries":0,"stop_grace_seconds":300,"time_limit":"0:30:00"},"run":null,"site":{"container_runtime":"none","cpus_per_task":0,"env":{},"exclude":"","modules":[],"mounts":[],"nodelist":"","pass_env":[],"preflight":"stop","project_dir":"","python":"","root":"/shared/jobctl","secrets_file":""},"site_name":"local","stage":"smoke","target":"docker","tier":1,"train":{"adam_eps":1e-8,"always_save_checkpoint":false,"attention_backend":"auto","batch_size":2,"beta1":0.9,"beta2":0.95,"block_size":2048,"checkpoint_interval":0,"checkpoint_when_busy":"skip","compile":false,"dataloader_num_workers":4,"deterministic":"auto","document_masking":false,"dtype":"bfloat16","eval_interval":10,"eval_iters":2,"eval_only":false,"grad_clip":1.0,"gradient_accumulation_steps":1,"gradient_log_interval":50,"hang_timeout":1800,"init_from":"auto","keep_every_checkpoint":0,"keep_last_checkpoints":2,"kernels":"auto","learning_rate":0.0003,"log_interval":1,"lr_decay_iters":50000,"max_bad_steps":20,"max_iters":10,"min_lr":0.00003,"optimizer":"adamw","profile":false,"seed":1337,"skip_loss_spikes":0.0,"use_cuda_graphs":false,"use_dataloader":false,"use_fp8":false,"use_fsdp":false,"use_zero1":false,"warmup_iters":2000,"weight_decay":0.1},"version":"0.0.0"}}
JOBCTL_RECORD
  # A link is made by one of several writers only; the others find it there.
  ln "$RUN_DIR/.run.json" "$RUN_DIR/run.json" 2>/dev/null || true
  rm -f "$RUN_DIR/.run.json"
}

# write_attempt END EXIT_CODE REASON, each as JSON
write_attempt() {
  printf '{"attempt": %d, "job_id": "%s", "target": "%s", "step": "%s", "task": %d, "tasks": %d, "host": "%s", "nodes": "%s", "pid": %d, "start": "%s", "end": %s, "exit_code": %s, "reason": %s}\n' \
    "$ATTEMPT" "$JOB_ID" docker train "${TASK_INDEX:-0}" "${TASKS:-1}" "$(uname -n)" "$NODES" "$$" "$STARTED" "$1" "$2" "$3" |
    write_durably "$RUN_DIR/attempts/$ATTEMPT.json"
}

begin_attempt() {
  make_shared "$JOBCTL_ROOT/runs"
  [ -d "$RUN_DIR" ] || mkdir -p "$RUN_DIR" || fail "$JOBCTL_ROOT cannot be written; set JOBCTL_ROOT"
  check_run # before anything is written there
  mkdir -p "$RUN_DIR/attempts" "$RUN_DIR/logs" || fail "$JOBCTL_ROOT cannot be written; set JOBCTL_ROOT"
  [ -e "$RUN_DIR/run.json" ] || write_record
  grep -Fq '"spec_hash": "f0611369e771cc8e"' "$RUN_DIR/run.json" ||
    fail "run $RUN exists and was made with other settings; take another name with --run"
  ATTEMPT=1
  until mkdir "$RUN_DIR/logs/$ATTEMPT" 2>/dev/null; do
    [ -d "$RUN_DIR/logs/$ATTEMPT" ] || fail "$RUN_DIR/logs cannot be written; is run $RUN somebody else's?"
    ATTEMPT=$((ATTEMPT + 1))
  done
  LOG_DIR="$RUN_DIR/logs/$ATTEMPT"
  STARTED=$(now)
  rm -f "$STOP" # a wish that an earlier attempt has already fulfilled
  write_attempt null null null
  export JOBCTL_ROOT RUN RUN_DIR ATTEMPT
}

# reason EXIT_CODE: what it says of an attempt's end
reason() {
  case $1 in
    0) echo finished ;;
    200) if grep -q '^cancel' "$STOP" 2>/dev/null; then echo cancelled; else echo stopped; fi ;;
    2) echo configuration ;;
    75) echo busy ;;
    129 | 130 | 143) echo cancelled ;;
    *) echo failed ;;
  esac
}

# end_attempt EXIT_CODE [REASON]
end_attempt() {
  write_attempt "\"$(now)\"" "$1" "\"${2:-$(reason "$1")}\""
}

# --- the container engine: $JOBCTL_ENGINE, or the first that answers -----------------------------------
answers() { command -v "$1" >/dev/null && "$1" ps --quiet >/dev/null 2>&1; }

# ask ARGUMENT...: what the engine prints, or the end of the job: "could not ask" is no answer.
ask() { "$ENGINE" "$@" 2>&1 || fail "$ENGINE $1 ended with $?"; }

# silence ENGINE: why it does not answer.
silence() {
  if command -v "$1" >/dev/null; then "$1" ps --quiet 2>&1 >/dev/null | tail -n 1; else echo "$1 is not installed"; fi
}

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

# What each engine is told in its own way: the GPUs, and whose files the job writes.
engine_options() {
  local user info
  user=$(id -u):$(id -g)
  case $ENGINE_VERSION in
    *odman*)
      OPTIONS+=(--device=nvidia.com/gpu=all)
      [ "$(id -u)" = 0 ] || OPTIONS+=(--userns=keep-id)
      OPTIONS+=(--no-healthcheck) # it would need systemd, and the run's record says more
      if (ulimit -l unlimited) 2>/dev/null; then OPTIONS+=("${LIMITS[@]}"); else OPTIONS+=(--ulimit=host); fi
      ;;
    *)
      OPTIONS+=(--gpus=all)
      info=$(ask info) || exit
      case $info in *rootless*) user=0:0 ;; esac # there the caller is the container's root
      # Where root itself cannot raise its limits, the daemon beside it cannot either.
      if [ "$(id -u)" != 0 ] || (ulimit -l unlimited) 2>/dev/null; then OPTIONS+=("${LIMITS[@]}"); fi
      ;;
  esac
  OPTIONS+=("--user=$user")
}

# Podman gets GPUs by NVIDIA's CDI file alone, and without it ends in a message that names neither.
check_gpus() {
  case $ENGINE_VERSION in *odman*) ;; *) return 0 ;; esac
  local folder
  for folder in ${JOBCTL_CDI_DIRS:-/etc/cdi /var/run/cdi}; do
    ! grep -qs 'nvidia.com/gpu' "$folder"/*.yaml "$folder"/*.json || return 0
  done
  fail "podman has no CDI file for NVIDIA's GPUs in ${JOBCTL_CDI_DIRS:-/etc/cdi and /var/run/cdi}; make it:" \
    "sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml (elsewhere: set JOBCTL_CDI_DIRS)"
}

find_engine
check_gpus
INSPECTED=$("$ENGINE" image inspect "$IMAGE" 2>&1 >/dev/null) ||
  fail "$ENGINE shows no image $IMAGE (${INSPECTED##*$'\n'}); make it: make image VARIANT="cu132
NAME=jobctl-$RUN-$$
JOB_ID=$ENGINE:$NAME
NODES=$(uname -n)

trap '' TERM INT HUP # until the attempt has its record and says how it ends
begin_attempt
HOST_ROOT=$JOBCTL_ROOT HOST_RUN_DIR=$RUN_DIR
JOBCTL_ROOT=/workspace RUN_DIR=/workspace/runs/$RUN
trap 'code=$?; trap "" TERM INT HUP; RUN_DIR=$HOST_RUN_DIR; end_attempt "$code"' EXIT
# The container's trainer sees STOP, a job of another kind SIGTERM; this shell outlives both.
stop_container() {
  echo "signalled" >>"$STOP"
  "$ENGINE" kill --signal=TERM "$NAME" >/dev/null 2>&1 || true
}
trap stop_container TERM INT HUP

OPTIONS=(
  --rm
  "--name=$NAME"
  "--label=jobctl.run=$HOST_RUN_DIR"
  "--volume=$HOST_ROOT:/workspace"
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
LIMITS=(--ulimit=memlock=-1:-1 --ulimit=stack=67108864:67108864) # NCCL pins the memory that it sends from
engine_options

# --- what runs ------------------------------------------------------------------------------------------
LAUNCH=(
  --nnodes=1
  --nproc_per_node=1
)
TRAINER=(
  --model_name=llama3_1.5b
  "--run_dir=$RUN_DIR"
  "--attempt=$ATTEMPT"
  "--dataset=$JOBCTL_ROOT/datasets/"slimpajama_6b-llama3
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
  --always_save_checkpoint=False
  --keep_last_checkpoints=2
  --keep_every_checkpoint=0
  --checkpoint_when_busy=skip
  --init_from=auto
  --max_bad_steps=20
  --skip_loss_spikes=0.0
  --hang_timeout=1800
  --profile=False
)
LAUNCH+=(--standalone)
PYTHON=python3

# Into the log, and onto the terminal where somebody looks.
record_output() {
  trap '' TERM INT HUP
  if [ -n "${JOBCTL_QUIET:-}" ]; then exec cat >>"$LOG_DIR/batch.log"; else exec tee -a "$LOG_DIR/batch.log"; fi
}

# supervise COMMAND...: its exit code, whatever signals arrive meanwhile. A signal interrupts bash's wait, and the
# wait after that may have forgotten the code of a child that is gone (bash 5.2 answers -1); so the child's own shell,
# where the command is in the foreground and nothing interrupts it, writes the code down.
supervise() {
  local file="$LOG_DIR/.exit_code-${POD:-0}" code=137
  rm -f "$file"
  (
    trap : TERM INT HUP USR2
    code=0
    "$@" || code=$?
    echo "$code" >"$file"
  ) &
  local child=$!
  while kill -0 "$child" 2>/dev/null; do
    wait "$child" || true
  done
  if [ -e "$file" ]; then
    read -r code <"$file"
    rm -f "$file"
  fi
  return "$code"
}

run() {
  [ ! -e "$STOP" ] || return 200
  # In a process group of its own: this shell passes signals on, and Docker's client would leave at the third.
  set -m
  supervise "$ENGINE" run "${OPTIONS[@]}" "$IMAGE" "$@" > >(record_output) 2>&1
}

run "$PYTHON" -m jobctl.trainer.launch "${LAUNCH[@]}" -- "${TRAINER[@]}"

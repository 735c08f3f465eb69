#!/bin/bash
# qwen3_smoke on cpu, tier 1, stage train, on this machine. Made by jobctl 0.0.0; it needs bash, coreutils and a Python with torch.
set -euo pipefail

JOBCTL_ROOT=/shared/jobctl
RUN=qwen3_smoke-train-$(date -u +%Y%m%d-%H%M%S)-$$
RUN_DIR=$JOBCTL_ROOT/runs/$RUN
JOB_ID=$$
NODES=$(uname -n)
# --- environment ----------------------------------------------------------------------------------------
export OMP_NUM_THREADS=1
export PYTHONSAFEPATH=1
export PYTHONUNBUFFERED=1
PYTHON=${JOBCTL_PYTHON:-python3}

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
{"format": 2, "spec_hash": "701d121ff2f9560d", "spec": {"after":[],"arguments":[],"facts":{"allreduce_gb_s":0.0,"allreduce_network_gb_s":0.0,"compute_capability":"","cpus":2,"device":"","gpu_product":"","image_variants":["cpu"],"memory_gib":4.0,"node_memory_gib":4,"peak_tflops":{},"shm_gib":1},"hardware":"cpu","inputs":{"dataset":"sotu","image":"","image_variant":"cpu","sweep_batch_sizes":[],"tokenizer":"gpt2"},"kind":"train","model":{"architecture":"qwen3","head_dim":16,"hidden_size":64,"initializer_range":0.02,"intermediate_size":192,"max_position_embeddings":256,"norm_eps":1e-6,"num_attention_heads":4,"num_hidden_layers":4,"num_key_value_heads":2,"rope_theta":1000000.0,"tie_word_embeddings":false,"vocab_size":50304},"model_name":"qwen3_smoke","resources":{"array_limit":0,"gpus_per_node":0,"master_port":0,"max_attempts":50,"nodes":1,"processes_per_node":2,"retries":0,"stop_grace_seconds":300,"time_limit":"24:00:00"},"run":null,"site":{"container_runtime":"none","cpus_per_task":0,"env":{},"exclude":"","modules":[],"mounts":[],"nodelist":"","pass_env":[],"preflight":"off","project_dir":"","python":"","root":"/shared/jobctl","secrets_file":""},"site_name":"local","stage":"train","target":"local","tier":1,"train":{"adam_eps":1e-8,"always_save_checkpoint":false,"attention_backend":"sdpa","batch_size":4,"beta1":0.9,"beta2":0.95,"block_size":128,"checkpoint_interval":50,"checkpoint_when_busy":"skip","compile":false,"dataloader_num_workers":4,"deterministic":"auto","document_masking":false,"dtype":"float32","eval_interval":50,"eval_iters":4,"eval_only":false,"grad_clip":1.0,"gradient_accumulation_steps":1,"gradient_log_interval":50,"hang_timeout":1800,"init_from":"auto","keep_every_checkpoint":0,"keep_last_checkpoints":2,"kernels":"auto","learning_rate":0.005,"log_interval":10,"lr_decay_iters":0,"max_bad_steps":20,"max_iters":100,"min_lr":0.0005,"optimizer":"adamw","profile":false,"seed":1337,"skip_loss_spikes":0.0,"use_cuda_graphs":false,"use_dataloader":false,"use_fp8":false,"use_fsdp":false,"use_zero1":false,"warmup_iters":10,"weight_decay":0.1},"version":"0.0.0"}}
JOBCTL_RECORD
  # A link is made by one of several writers only; the others find it there.
  ln "$RUN_DIR/.run.json" "$RUN_DIR/run.json" 2>/dev/null || true
  rm -f "$RUN_DIR/.run.json"
}

# write_attempt END EXIT_CODE REASON, each as JSON
write_attempt() {
  printf '{"attempt": %d, "job_id": "%s", "target": "%s", "step": "%s", "task": %d, "tasks": %d, "host": "%s", "nodes": "%s", "pid": %d, "start": "%s", "end": %s, "exit_code": %s, "reason": %s}\n' \
    "$ATTEMPT" "$JOB_ID" local train "${TASK_INDEX:-0}" "${TASKS:-1}" "$(uname -n)" "$NODES" "$$" "$STARTED" "$1" "$2" "$3" |
    write_durably "$RUN_DIR/attempts/$ATTEMPT.json"
}

begin_attempt() {
  make_shared "$JOBCTL_ROOT/runs"
  [ -d "$RUN_DIR" ] || mkdir -p "$RUN_DIR" || fail "$JOBCTL_ROOT cannot be written; set JOBCTL_ROOT"
  check_run # before anything is written there
  mkdir -p "$RUN_DIR/attempts" "$RUN_DIR/logs" || fail "$JOBCTL_ROOT cannot be written; set JOBCTL_ROOT"
  [ -e "$RUN_DIR/run.json" ] || write_record
  grep -Fq '"spec_hash": "701d121ff2f9560d"' "$RUN_DIR/run.json" ||
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

trap '' TERM INT HUP # until the attempt has its record and says how it ends
begin_attempt
trap 'code=$?; trap "" TERM INT HUP; end_attempt "$code"' EXIT
# The trainer gets the signal as well, being in the same process group, and checkpoints; this shell outlives it.
trap : TERM INT HUP

# --- what runs ------------------------------------------------------------------------------------------
LAUNCH=(
  --nnodes=1
  --nproc_per_node=2
)
TRAINER=(
  --model_name=qwen3_smoke
  "--run_dir=$RUN_DIR"
  "--attempt=$ATTEMPT"
  "--dataset=$JOBCTL_ROOT/datasets/"sotu-gpt2
  --architecture=qwen3
  --vocab_size=50304
  --hidden_size=64
  --intermediate_size=192
  --num_hidden_layers=4
  --num_attention_heads=4
  --num_key_value_heads=2
  --head_dim=16
  --max_position_embeddings=256
  --rope_theta=1000000.0
  --norm_eps=1e-06
  --tie_word_embeddings=False
  --initializer_range=0.02
  --max_iters=100
  --batch_size=4
  --gradient_accumulation_steps=1
  --block_size=128
  --optimizer=adamw
  --learning_rate=0.005
  --min_lr=0.0005
  --warmup_iters=10
  --lr_decay_iters=0
  --weight_decay=0.1
  --beta1=0.9
  --beta2=0.95
  --adam_eps=1e-08
  --grad_clip=1.0
  --seed=1337
  --dtype=float32
  --use_fp8=False
  --attention_backend=sdpa
  --compile=False
  --kernels=auto
  --deterministic=auto
  --use_cuda_graphs=False
  --document_masking=False
  --use_zero1=False
  --use_fsdp=False
  --use_dataloader=False
  --dataloader_num_workers=4
  --eval_interval=50
  --eval_iters=4
  --eval_only=False
  --log_interval=10
  --gradient_log_interval=50
  --checkpoint_interval=50
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
  supervise "$@" > >(record_output) 2>&1
}

run "$PYTHON" -m jobctl.trainer.launch "${LAUNCH[@]}" -- "${TRAINER[@]}"

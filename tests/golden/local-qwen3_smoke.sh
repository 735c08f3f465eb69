#!/bin/bash
# qwen3_smoke on cpu, tier 1, stage train, on this machine. Made by jobctl 0.0.0; it needs bash, coreutils and a Python with torch.
set -euo pipefail

# --- What: the data of this job. The rest is the same for all jobs of its kind. ------------------------
JOBCTL_ROOT=/shared/jobctl
RUN=qwen3_smoke-train-$(date -u +%Y%m%d-%H%M%S)-$$
JOB_TARGET='local'
JOB_STEP='train'
JOB_READS_CHECKPOINT=''
JOB_STOP_FILE=STOP
JOB_SPEC_HASH=701d121ff2f9560d
JOB_TRUSTED=(root)
JOB_RECORD='{"format": 3, "spec_hash": "701d121ff2f9560d", "spec": {"after":[],"arguments":[],"facts":{"allreduce_gb_s":0.0,"allreduce_network_gb_s":0.0,"compute_capability":"","cpus":2,"device":"","gpu_product":"","image_variants":["cpu"],"memory_gib":4.0,"node_memory_gib":4,"peak_tflops":{},"shm_gib":1},"hardware":"cpu","inputs":{"dataset":"sotu","image":"","image_variant":"cpu","sweep_batch_sizes":[],"tokenizer":"gpt2"},"kind":"train","model":{"architecture":"qwen3","bias":false,"head_dim":16,"hidden_size":64,"initializer_range":0.02,"intermediate_size":192,"max_position_embeddings":256,"norm_eps":1e-6,"num_attention_heads":4,"num_hidden_layers":4,"num_key_value_heads":2,"rope_factor":1.0,"rope_high_freq_factor":4.0,"rope_low_freq_factor":1.0,"rope_original_positions":8192,"rope_theta":1000000.0,"rope_type":"default","tie_word_embeddings":false,"vocab_size":50304},"model_name":"qwen3_smoke","resources":{"array_limit":0,"gpus_per_node":0,"master_port":0,"max_attempts":50,"nodes":1,"processes_per_node":2,"retries":0,"stop_grace_seconds":300,"time_limit":"24:00:00"},"run":null,"site":{"compile_cache_gib":8.0,"container":{"modules":[],"mounts":[],"runtime":"none","share_image":true},"cpus_per_task":0,"env":{},"exclude":"","modules":[],"nodelist":"","pass_env":[],"preflight":"off","project_dir":"","python":"","root":"/shared/jobctl","secrets_file":""},"site_name":"local","stage":"train","target":"local","tier":1,"train":{"activation_checkpointing":"none","adam_eps":1e-8,"always_save_checkpoint":false,"attention_backend":"sdpa","batch_size":4,"beta1":0.9,"beta2":0.95,"block_size":128,"checkpoint_interval":50,"checkpoint_when_busy":"skip","compile":false,"dataloader_num_workers":4,"deterministic":"auto","document_masking":false,"dtype":"float32","eval_interval":50,"eval_iters":4,"eval_only":false,"grad_clip":1.0,"gradient_accumulation_steps":1,"gradient_log_interval":50,"hang_timeout":1800,"init_from":"auto","keep_every_checkpoint":0,"keep_last_checkpoints":2,"kernels":"auto","learning_rate":0.005,"log_interval":10,"lr_decay_iters":0,"max_bad_steps":20,"max_iters":100,"min_lr":0.0005,"optimizer":"adamw","profile":false,"save_checkpoints":true,"seed":1337,"skip_loss_spikes":0.0,"use_cuda_graphs":false,"use_dataloader":false,"use_fp8":false,"use_fsdp":false,"use_zero1":false,"verify_replay":0,"warmup_iters":10,"weight_decay":0.1},"version":"0.0.0"}}'
LAUNCH=(
  --nnodes=1
  --nproc_per_node=2
)
JOB_DATASET=sotu-gpt2
JOB_FLAGS=(
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
  --rope_type=default
  --rope_factor=1.0
  --rope_low_freq_factor=1.0
  --rope_high_freq_factor=4.0
  --rope_original_positions=8192
  --bias=False
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
  --activation_checkpointing=none
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

# record_output: copy standard input to the log, and to the terminal unless JOBCTL_QUIET is set.
record_output() {
  trap '' TERM INT HUP
  if [ -n "${JOBCTL_QUIET:-}" ]; then
    exec cat >>"$LOG_DIR/batch.log"
  else
    exec tee -a "$LOG_DIR/batch.log"
  fi
}

# run COMMAND...: run COMMAND on this machine, and return its exit code.
run() {
  supervise "$@" > >(record_output) 2>&1
}

# --- Where: this machine, the run's directory, and the environment of the payload. ---------------------
RUN_DIR=$JOBCTL_ROOT/runs/$RUN
STOP=$RUN_DIR/$JOB_STOP_FILE
JOB_ID=$$
NODES=$(uname -n)
export OMP_NUM_THREADS=1
export PYTHONSAFEPATH=1
export PYTHONUNBUFFERED=1
PYTHON=${JOBCTL_PYTHON:-python3}

# --- Record: take an attempt's number, and record its end however it ends. -----------------------------
# A signal must not end this shell before the attempt has its record and says how it ends.
trap '' TERM INT HUP
begin_attempt
trap 'code=$?; trap "" TERM INT HUP; end_attempt "$code"' EXIT
# The trainer is in the same process group, so it gets the signal too, and checkpoints. This shell ends after it.
trap : TERM INT HUP

# --- Run -----------------------------------------------------------------------------------------------
TRAINER=(
  --model_name=qwen3_smoke
  "--run_dir=$RUN_DIR"
  "--attempt=$ATTEMPT"
  "--dataset=$JOBCTL_ROOT/datasets/$JOB_DATASET"
  # Not auto: a node whose GPUs are broken would train on its CPU.
  --device=cpu
  "${JOB_FLAGS[@]}"
)
LAUNCH+=(--standalone)
run "$PYTHON" -m jobctl.trainer.launch "${LAUNCH[@]}" -- "${TRAINER[@]}"

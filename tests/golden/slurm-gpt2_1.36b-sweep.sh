#!/bin/bash
#SBATCH --job-name=gpt2_1.36b-sweep
#SBATCH --array=0-5
#SBATCH --comment=jobctl
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --exclusive
#SBATCH --mem=0
#SBATCH --time=4:00:00
#SBATCH --signal=B:USR2@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --kill-on-invalid-dep=yes

# gpt2_1.36b on b200, tier 1, stage sweep. Made by jobctl 0.0.0: sbatch THIS_FILE, or pipe it into sbatch.
set -euo pipefail

JOBCTL_ROOT=/shared/jobctl
JOB_ID=$SLURM_JOB_ID
JOB_ID=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID TASK_INDEX=$SLURM_ARRAY_TASK_ID TASKS=6
RUN=gpt2_1.36b-sweep-${JOB_ID%_*}
RUN_DIR=$JOBCTL_ROOT/runs/$RUN
NODES=$SLURM_JOB_NODELIST
mapfile -t HOSTS < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
CACHE=$JOBCTL_ROOT/cache/$(id -un)
# --- environment ----------------------------------------------------------------------------------------
export NCCL_DEBUG=WARN
export TORCH_NCCL_ASYNC_ERROR_HANDLING=1
export TORCH_NCCL_TRACE_BUFFER_SIZE=2000
export TORCH_NCCL_DUMP_ON_TIMEOUT=1
export TORCHINDUCTOR_CACHE_DIR="$CACHE/inductor"
export TRITON_CACHE_DIR="$CACHE/triton"
export OMP_NUM_THREADS=8
export PYTHONSAFEPATH=1
export PYTHONUNBUFFERED=1
export PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True
PYTHON=${JOBCTL_PYTHON:-python3}
ulimit -l unlimited 2>/dev/null || echo "jobctl: memory cannot be pinned without limit (ulimit -l $(ulimit -l))" >&2

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
{"format": 2, "spec_hash": "5ecb80a514863b09", "spec": {"after":[],"arguments":[],"facts":{"allreduce_gb_s":550.0,"allreduce_network_gb_s":100.0,"compute_capability":"10.0","cpus":224,"device":"B200","gpu_product":"NVIDIA-B200","image_variants":["cu132"],"memory_gib":180.0,"node_memory_gib":2048,"peak_tflops":{"bfloat16":2250.0,"float16":2250.0,"fp8":4500.0},"shm_gib":256},"hardware":"b200","inputs":{"dataset":"slimpajama_6b","image":"","image_variant":"cu132","sweep_batch_sizes":[12,16,20,24,28,32],"tokenizer":"gpt2"},"kind":"train","model":{"architecture":"gpt2","head_dim":128,"hidden_size":2304,"initializer_range":0.02,"intermediate_size":9216,"max_position_embeddings":2048,"norm_eps":0.00001,"num_attention_heads":18,"num_hidden_layers":18,"num_key_value_heads":18,"rope_theta":10000.0,"tie_word_embeddings":true,"vocab_size":50304},"model_name":"gpt2_1.36b","resources":{"array_limit":0,"gpus_per_node":8,"master_port":0,"max_attempts":50,"nodes":1,"processes_per_node":0,"retries":0,"stop_grace_seconds":300,"time_limit":"4:00:00"},"run":null,"site":{"account":"","comment":"","constraint":"","container_runtime":"none","cpu_partition":"","cpus_per_task":0,"env":{},"exclude":"","exclusive":true,"gpu_request":"gpus-per-node","gpu_type":"","mail_type":"END,FAIL","mail_user":"","memory":"0","modules":[],"mounts":[],"nodelist":"","partition":"","pass_env":[],"preflight":"stop","project_dir":"","python":"","qos":"","reservation":"","root":"/shared/jobctl","secrets_file":"","spare_nodes":0},"site_name":"local","stage":"sweep","target":"slurm","tier":1,"train":{"adam_eps":1e-8,"always_save_checkpoint":false,"attention_backend":"auto","batch_size":16,"beta1":0.9,"beta2":0.95,"block_size":2048,"checkpoint_interval":0,"checkpoint_when_busy":"skip","compile":true,"dataloader_num_workers":4,"deterministic":"auto","document_masking":false,"dtype":"bfloat16","eval_interval":500,"eval_iters":20,"eval_only":false,"grad_clip":1.0,"gradient_accumulation_steps":8,"gradient_log_interval":50,"hang_timeout":1800,"init_from":"auto","keep_every_checkpoint":0,"keep_last_checkpoints":2,"kernels":"auto","learning_rate":0.0003,"log_interval":1,"lr_decay_iters":32000,"max_bad_steps":20,"max_iters":10,"min_lr":0.00003,"optimizer":"adamw","profile":false,"seed":1337,"skip_loss_spikes":0.0,"use_cuda_graphs":false,"use_dataloader":false,"use_fp8":false,"use_fsdp":true,"use_zero1":false,"warmup_iters":2000,"weight_decay":0.1},"version":"0.0.0"}}
JOBCTL_RECORD
  # A link is made by one of several writers only; the others find it there.
  ln "$RUN_DIR/.run.json" "$RUN_DIR/run.json" 2>/dev/null || true
  rm -f "$RUN_DIR/.run.json"
}

# write_attempt END EXIT_CODE REASON, each as JSON
write_attempt() {
  printf '{"attempt": %d, "job_id": "%s", "target": "%s", "step": "%s", "task": %d, "tasks": %d, "host": "%s", "nodes": "%s", "pid": %d, "start": "%s", "end": %s, "exit_code": %s, "reason": %s}\n' \
    "$ATTEMPT" "$JOB_ID" slurm sweep "${TASK_INDEX:-0}" "${TASKS:-1}" "$(uname -n)" "$NODES" "$$" "$STARTED" "$1" "$2" "$3" |
    write_durably "$RUN_DIR/attempts/$ATTEMPT.json"
}

begin_attempt() {
  make_shared "$JOBCTL_ROOT/runs"
  [ -d "$RUN_DIR" ] || mkdir -p "$RUN_DIR" || fail "$JOBCTL_ROOT cannot be written; set JOBCTL_ROOT"
  check_run # before anything is written there
  mkdir -p "$RUN_DIR/attempts" "$RUN_DIR/logs" || fail "$JOBCTL_ROOT cannot be written; set JOBCTL_ROOT"
  [ -e "$RUN_DIR/run.json" ] || write_record
  grep -Fq '"spec_hash": "5ecb80a514863b09"' "$RUN_DIR/run.json" ||
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
[ "${#HOSTS[@]}" -gt 0 ] || fail "scontrol does not say which nodes $SLURM_JOB_NODELIST are"

# What compilers leave here is executed by the next job, so it has to be this user's own.
make_shared "${CACHE%/*}"
[ -d "$CACHE" ] || mkdir -m 700 "$CACHE" 2>/dev/null || [ -d "$CACHE" ] || fail "$CACHE cannot be made"
check_owned "$CACHE"

begin_attempt
printf 'jobctl: run %s, attempt %s; log: %s\n' "$RUN" "$ATTEMPT" "$LOG_DIR/batch.log"
exec >>"$LOG_DIR/batch.log" 2>&1
export TORCH_NCCL_DEBUG_INFO_TEMP_FILE=$LOG_DIR/nccl-trace-

# --- time limit, preemption, failure: what is started again --------------------------------------------
# Slurm warns this shell before the time limit, or before it preempts the job. The trainer sees STOP, checkpoints and
# says 200.
END=${SLURM_JOB_END_TIME:-$(($(date +%s) + 14400))}
warned=0 terminated=0
trap 'warned=1' USR2 # nothing of it is kept, so it may use the time that is left
trap 'terminated=1' TERM

# Why the attempt ended, from its exit code. What Slurm does to the job, Slurm is asked: preempting it, it signals the
# steps at once and this shell only after the partition's GraceTime.
reason_of() {
  local job
  if [ "$1" != 0 ] && grep -q '^cancel' "$STOP" 2>/dev/null; then echo cancelled && return 0; fi
  job=$(scontrol show job --oneliner "$SLURM_JOB_ID") || true
  case $terminated/$1/$job in
    */0/*) echo finished ;;
    1/*/*JobState=CANCELLED*) echo cancelled ;;
    1/*/*JobState=TIMEOUT*) echo "time limit" ;;
    1/*/*JobState=PREEMPTED* | */*/*PreemptTime=[0-9]*) echo preempted ;;
    1/*/*) echo requeued ;; # by hand, or by a node that died
    0/200/*)
      if [ "$warned" = 0 ]; then
        echo stopped
      elif [ "$(date +%s)" -ge "$((END - 420))" ]; then
        echo "time limit"
      else
        echo preempted
      fi
      ;;
    0/201/*) echo hardware ;;
    *) reason "$1" ;;
  esac
}

# How many attempts at the same have ended for one of these reasons, as a regular expression.
count() {
  cat "$RUN_DIR"/attempts/*.json |
    grep -cE '"step": "sweep", "task": '"${TASK_INDEX:-0}"',.*"reason": "('"$1"')"' || true
}

finish() {
  local code=$1 why
  trap '' TERM USR2
  if [ "$terminated" = 1 ] && [ "$code" = 0 ]; then code=143; fi # of a step that Slurm has killed srun says 0
  why=$(reason_of "$code")
  end_attempt "$code" "$why"
  if [ "$terminated" = 1 ] && [ "$why/$code" != "time limit/200" ]; then exit "$code"; fi
  case $why in
    "time limit" | stopped)
      if [ "$(count "time limit|stopped")" -ge 50 ]; then
        echo "jobctl: 50 attempts made; not requeued" && exit 1
      fi
      ;;
    preempted) ;;
    failed | hardware | busy)
      if [ "$(count "failed|hardware|busy")" -gt 0 ]; then exit "$code"; fi
      ;;
    *) exit "$code" ;;
  esac
  requeue
  exit "$code"
}
trap 'finish $?' EXIT

# A job cannot be told which nodes to avoid while it runs; so it is requeued on hold.
requeue() {
  local bad
  bad=$(cat "$RUN_DIR"/logs/*/bad-nodes 2>/dev/null | cut -f 1 | sort -u | paste -sd, || true)
  if [ -n "$bad" ]; then
    echo "jobctl: requeued, without $bad"
    scontrol requeuehold "$SLURM_JOB_ID"
    scontrol update "JobId=$SLURM_JOB_ID" "ExcNodeList="''"$bad" || true
    scontrol release "$SLURM_JOB_ID"
  else
    echo "jobctl: requeued"
    scontrol requeue "$SLURM_JOB_ID"
  fi
}

# --- what runs ------------------------------------------------------------------------------------------
LAUNCH=(
  --nnodes=1
  --nproc_per_node=8
)
TRAINER=(
  --model_name=gpt2_1.36b
  "--run_dir=$RUN_DIR"
  "--attempt=$ATTEMPT"
  "--dataset=$JOBCTL_ROOT/datasets/"slimpajama_6b-gpt2
  --architecture=gpt2
  --vocab_size=50304
  --hidden_size=2304
  --intermediate_size=9216
  --num_hidden_layers=18
  --num_attention_heads=18
  --num_key_value_heads=18
  --head_dim=128
  --max_position_embeddings=2048
  --rope_theta=10000.0
  --norm_eps=1e-05
  --tie_word_embeddings=True
  --initializer_range=0.02
  --max_iters=10
  --batch_size=16
  --gradient_accumulation_steps=8
  --block_size=2048
  --optimizer=adamw
  --learning_rate=0.0003
  --min_lr=3e-05
  --warmup_iters=2000
  --lr_decay_iters=32000
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
  --document_masking=False
  --use_zero1=False
  --use_fsdp=True
  --use_dataloader=False
  --dataloader_num_workers=4
  --eval_interval=500
  --eval_iters=20
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

# task FOLDER FIRST_NODE TASKS COMMAND...: what each node runs. It leaves its exit code in the folder. A 200 must not reach
# srun, which would take it for a failure and kill the other tasks while they still write. Slurm signals this shell
# only, so it passes SIGTERM on. The command's own shell, which nothing signals, writes its code down: bash may lose that
# of a child which ends just when a signal interrupts wait.
task() {
  local folder=$1 first=$2 tasks=$3 child said code=137 ended=0 waited=0
  shift 3
  export NODE=$SLURMD_NODENAME
  if [ "$NODE" = "$first" ]; then export PET_RDZV_CONF=is_host=1; else export PET_RDZV_CONF=is_host=0; fi
  trap 'ended=1; kill -TERM "$(cat "$folder/.pid-$NODE" 2>/dev/null)" 2>/dev/null' TERM
  (
    trap : TERM
    code=0
    (echo "$BASHPID" >"$folder/.pid-$NODE" && exec "$@") || code=$?
    rm -f "$folder/.pid-$NODE"
    echo "$code" >"$folder/.exit-$NODE" && mv "$folder/.exit-$NODE" "$folder/exit-$NODE"
  ) &
  child=$!
  while kill -0 "$child" 2>/dev/null; do wait "$child"; done
  read -r code <"$folder/exit-$NODE"
  # srun ends all others at the first failure. So what may be the consequence of another node's waits for that one's
  # word, and whom srun ends meanwhile was not the cause.
  if [ "$code" = 1 ] || [ "$code" = 143 ]; then
    while [ "$ended" = 0 ] && [ "$waited" -lt 20 ]; do
      said=("$folder"/exit-*)
      [ "${#said[@]}" -lt "$tasks" ] || break
      sleep 1
      waited=$((waited + 1))
    done
    [ "$ended" = 0 ] || echo 143 >"$folder/exit-$NODE"
  fi
  [ "$code" != 201 ] || printf '%s\t%s\n' "$NODE" "one of its GPUs failed; its ranks say more" >>"$folder/bad-nodes"
  [ "$code" != 200 ] || code=0
  return "$code"
}

# cause CODE FILE...: of all nodes' exit codes, one a file, the one that led to the others. A trainer whose peer is gone
# fails with 1, and what is left is ended with SIGTERM. CODE is what it comes to where no file says more.
cause() {
  local code cause=$1 rank best=9
  [ "$1" = 0 ] || best=5
  shift
  while read -r code; do
    case $code in
      2) rank=0 ;; 201) rank=1 ;; 200) rank=3 ;; 1) rank=4 ;; 143) rank=6 ;; 0) rank=8 ;; *) rank=2 ;;
    esac
    if [ "$rank" -lt "$best" ]; then best=$rank cause=$code; fi
  done < <(cat -- "$@" 2>/dev/null)
  echo "$cause"
}

# One task on each of HOSTS; the death of one ends all.
run() {
  local hosts code=0
  hosts=$(IFS=, && echo "${HOSTS[*]}")
  rm -f "$LOG_DIR"/exit-*
  [ -z "${SLURM_CPUS_PER_TASK:-}" ] || export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK
  supervise srun "--nodelist=$hosts" "--nodes=${#HOSTS[@]}" "--ntasks=${#HOSTS[@]}" --ntasks-per-node=1 \
    --kill-on-bad-exit=1 --wait=60 \
    bash -c "$(declare -f task); task \"\$@\"" task "$LOG_DIR" "${HOSTS[0]}" "${#HOSTS[@]}" "$@" || code=$?
  return "$(cause "$code" "$LOG_DIR"/exit-*)"
}

# meet ID PORT: torchrun's nodes find each other at the first one. Its name is resolved here, where it can be.
meet() {
  local address
  read -r address _ < <(getent ahostsv4 "${HOSTS[0]}") || address=${HOSTS[0]}
  LAUNCH+=("--nnodes=${#HOSTS[@]}" --rdzv_backend=c10d "--rdzv_endpoint=$address:$2" "--rdzv_id=$1")
}
PORT=$((20000 + SLURM_JOB_ID % 20000))
meet "$SLURM_JOB_ID" "$PORT"

# One training a batch size. One that does not fit says so in its log and does not end the others.
SIZES=(12 16 20 24 28 32)
SIZES=("${SIZES[TASK_INDEX]}")
swept=1
for size in "${SIZES[@]}"; do
  code=0
  run "$PYTHON" -m jobctl.trainer.launch "${LAUNCH[@]}" -- "${TRAINER[@]}" \
    "--run_dir=$RUN_DIR/sweep/$ATTEMPT/batch_size=$size" "--batch_size=$size" --init_from=scratch || code=$?
  if [ "$code" = 0 ]; then swept=0; fi
  # Told to end: the other sizes are not begun.
  if [ "$code" = 200 ] || [ "$code" = 143 ] || grep -q '^cancel' "$STOP" 2>/dev/null; then exit 143; fi
done
[ "$swept" = 0 ]

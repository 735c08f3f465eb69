#!/bin/bash
#SBATCH --job-name=llama3_2.2b-train
#SBATCH --comment=jobctl
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --exclusive
#SBATCH --mem=0
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR2@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --kill-on-invalid-dep=yes

# llama3_2.2b on h100, tier 3, stage train. Made by jobctl 0.0.0: sbatch THIS_FILE, or pipe it into sbatch.
set -euo pipefail

JOBCTL_ROOT=/shared/jobctl
RUN=llama3_2.2b-train-$SLURM_JOB_ID
RUN_DIR=$JOBCTL_ROOT/runs/$RUN
JOB_ID=$SLURM_JOB_ID
NODES=$SLURM_JOB_NODELIST
# --- environment ----------------------------------------------------------------------------------------
export OMP_NUM_THREADS=8
export PYTHONUNBUFFERED=1
export PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True
PYTHON=${JOBCTL_PYTHON:-python3}

# --- the run directory: its record, and this attempt's own ---------------------------------------------
fail() { printf 'jobctl: %s\n' "$*" >&2; exit 2; }

now() { date -u +%Y-%m-%dT%H:%M:%SZ; }

# Written aside, synced, renamed: a reader sees the old text or the new, never half of one.
write_durably() {
  cat >"$1.$$" && sync "$1.$$" && mv -f "$1.$$" "$1"
}

write_record() {
  write_durably "$RUN_DIR/.run.json" <<'JOBCTL_RECORD'
{"spec_hash": "cbb99ec2d8139c75", "spec": {"after":[],"arguments":[],"facts":{"compute_capability":"9.0","cpus":112,"device":"H100","gpu_product":"NVIDIA-H100-80GB-HBM3","image_variants":["cu124","cu128"],"memory_gib":80.0,"node_memory_gib":1024,"peak_tflops":{"bfloat16":989.0,"float16":989.0,"fp8":1979.0},"shm_gib":128},"hardware":"h100","inputs":{"dataset":"slimpajama_6b","image":"","image_variant":"cu128","sweep_batch_sizes":[],"tokenizer":"llama3"},"kind":"train","model":{"architecture":"llama","head_dim":128,"hidden_size":2048,"initializer_range":0.02,"intermediate_size":7168,"max_position_embeddings":2048,"norm_eps":0.00001,"num_attention_heads":16,"num_hidden_layers":30,"num_key_value_heads":8,"rope_theta":500000.0,"tie_word_embeddings":false,"vocab_size":128256},"model_name":"llama3_2.2b","resources":{"gpus_per_node":8,"master_port":0,"max_attempts":50,"nodes":2,"processes_per_node":0,"stop_grace_seconds":300,"time_limit":"24:00:00"},"run":null,"site":{"account":"","constraint":"","container_runtime":"none","context":"","cpus_per_task":0,"env":{},"exclude":"","exclusive":true,"gpu_request":"gpus-per-node","gpu_resource":"nvidia.com/gpu","gpu_type":"","mail_type":"END,FAIL","mail_user":"","memory":"0","modules":[],"mounts":[],"namespace":"jobctl","node_selector":{},"nodelist":"","partition":"","pass_env":[],"project_dir":"","pull_secret":"","pvc":"jobctl-workspace","python":"","qos":"","queue":"","rdma_resource":"","reservation":"","root":"/shared/jobctl","run_as_user":1000,"secret":"","tolerations":["nvidia.com/gpu"]},"site_name":"local","stage":"train","target":"slurm","tier":3,"train":{"adam_eps":1e-8,"always_save_checkpoint":false,"attention_backend":"auto","batch_size":4,"beta1":0.9,"beta2":0.95,"block_size":2048,"checkpoint_interval":500,"compile":true,"dataloader_num_workers":4,"document_masking":false,"dtype":"bfloat16","eval_interval":500,"eval_iters":20,"eval_only":false,"grad_clip":1.0,"gradient_accumulation_steps":32,"gradient_log_interval":50,"hang_timeout":1800,"init_from":"auto","keep_every_checkpoint":0,"keep_last_checkpoints":2,"kernels":"auto","learning_rate":0.0003,"log_interval":10,"lr_decay_iters":29000,"max_bad_steps":20,"max_iters":2000,"min_lr":0.00003,"profile":false,"seed":1337,"skip_loss_spikes":0.0,"use_cuda_graphs":true,"use_dataloader":true,"use_fp8":false,"use_fsdp":false,"use_zero1":false,"warmup_iters":2000,"weight_decay":0.1},"version":"0.0.0"}}
JOBCTL_RECORD
  # A link is made by one of several writers only; the others find it there.
  ln "$RUN_DIR/.run.json" "$RUN_DIR/run.json" 2>/dev/null || true
  rm -f "$RUN_DIR/.run.json"
}

# write_attempt END EXIT_CODE REASON, each as JSON
write_attempt() {
  printf '{"attempt": %d, "job_id": "%s", "target": "%s", "host": "%s", "nodes": "%s", "pid": %d, "start": "%s", "end": %s, "exit_code": %s, "reason": %s}\n' \
    "$ATTEMPT" "$JOB_ID" slurm "$(uname -n)" "$NODES" "$$" "$STARTED" "$1" "$2" "$3" |
    write_durably "$RUN_DIR/attempts/$ATTEMPT.json"
}

begin_attempt() {
  mkdir -p "$RUN_DIR/attempts" "$RUN_DIR/logs" || fail "$JOBCTL_ROOT cannot be written; set JOBCTL_ROOT"
  [ -e "$RUN_DIR/run.json" ] || write_record
  grep -Fq '"spec_hash": "cbb99ec2d8139c75"' "$RUN_DIR/run.json" ||
    fail "run $RUN exists and was made with other settings; take another name with --run"
  ATTEMPT=1
  until mkdir "$RUN_DIR/logs/$ATTEMPT" 2>/dev/null; do
    ATTEMPT=$((ATTEMPT + 1))
    [ "$ATTEMPT" -lt 100000 ] || fail "$RUN_DIR/logs cannot be written"
  done
  LOG_DIR="$RUN_DIR/logs/$ATTEMPT"
  STARTED=$(now)
  rm -f "$RUN_DIR/STOP" # a wish that an earlier attempt has already fulfilled
  write_attempt null null null
  export JOBCTL_ROOT RUN RUN_DIR ATTEMPT
}

# end_attempt EXIT_CODE: records why, and leaves the code as it is
end_attempt() {
  local reason=failed
  case $1 in
    0) reason=finished ;;
    200)
      reason=stopped
      if grep -q '^cancel' "$RUN_DIR/STOP" 2>/dev/null; then reason=cancelled; fi
      ;;
    2) reason=configuration ;;
    129 | 130 | 143) reason=cancelled ;;
  esac
  write_attempt "\"$(now)\"" "$1" "\"$reason\""
}

begin_attempt
printf 'jobctl: run %s, attempt %s; log: %s\n' "$RUN" "$ATTEMPT" "$LOG_DIR/batch.log"
exec >>"$LOG_DIR/batch.log" 2>&1

# Slurm warns this shell before the time limit. The trainer sees STOP, checkpoints and says 200.
warned=0 terminated=0
trap 'warned=1; echo "time limit" >>"$RUN_DIR/STOP"' USR2
trap 'terminated=1' TERM

# Requeued if and only if the trainer checkpointed and wants to go on, and nobody has cancelled the job meanwhile:
# a cancelled job's trainer is stopped by SIGTERM, without a warning before, and says 200 as well.
finish() {
  local code=$1
  trap '' TERM USR2
  # Of a step that Slurm itself has killed srun says 0.
  if [ "$terminated" = 1 ] && [ "$code" = 0 ]; then code=143; fi
  end_attempt "$code"
  [ "$code" = 200 ] || exit "$code"
  if grep -q '^cancel' "$RUN_DIR/STOP" 2>/dev/null; then
    echo "jobctl: stopped by a user; not requeued" && exit "$code"
  fi
  if [ "$ATTEMPT" -ge 50 ]; then
    echo "jobctl: 50 attempts made; not requeued" && exit 1
  fi
  if [ "$terminated" = 1 ] && [ "$warned" = 0 ]; then
    echo "jobctl: ended by Slurm; not requeued" && exit "$code"
  fi
  scontrol requeue "$SLURM_JOB_ID" && echo "jobctl: requeued"
  exit "$code"
}
trap 'finish $?' EXIT

MASTER=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000))
# --- what runs ------------------------------------------------------------------------------------------
LAUNCH=(
  -m trainer.launch
  --nnodes=2
  --nproc_per_node=8
)
TRAINER=(
  --model_name=llama3_2.2b
  "--run_dir=$RUN_DIR"
  "--attempt=$ATTEMPT"
  "--dataset=$JOBCTL_ROOT/datasets/"slimpajama_6b-llama3
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
  --norm_eps=1e-05
  --tie_word_embeddings=False
  --initializer_range=0.02
  --max_iters=2000
  --batch_size=4
  --gradient_accumulation_steps=32
  --block_size=2048
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
  --use_cuda_graphs=True
  --document_masking=False
  --use_zero1=False
  --use_fsdp=False
  --use_dataloader=True
  --dataloader_num_workers=4
  --eval_interval=500
  --eval_iters=20
  --eval_only=False
  --log_interval=10
  --gradient_log_interval=50
  --checkpoint_interval=500
  --always_save_checkpoint=False
  --keep_last_checkpoints=2
  --keep_every_checkpoint=0
  --init_from=auto
  --max_bad_steps=20
  --skip_loss_spikes=0.0
  --hang_timeout=1800
  --profile=False
)
LAUNCH+=(--rdzv_backend=c10d "--rdzv_endpoint=$MASTER:$MASTER_PORT" "--rdzv_id=$SLURM_JOB_ID")

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

# What each task runs. A 200 must not reach srun, which would take it for a failure and kill the other tasks while
# they still write: the task leaves a note of it instead. Slurm signals this shell only, so it passes SIGTERM on; a
# signal ends wait early, so it is asked again (127: it has told the code already; 255: bash has lost it).
# shellcheck disable=SC2016
TASK='
"$@" &
child=$!
trap "kill -TERM $child 2>/dev/null" TERM
while wait "$child"; code=$?; kill -0 "$child" 2>/dev/null; do :; done
wait "$child" 2>/dev/null
again=$?
[ "$again" = 127 ] || [ "$again" = 255 ] || code=$again
[ "$code" != 200 ] || { : >"$0"; code=0; }
exit "$code"'

# One task a node; the death of one ends all.
run() {
  rm -f "$LOG_DIR/.continue"
  [ -z "${SLURM_CPUS_PER_TASK:-}" ] || export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK
  supervise srun --nodes=2 --ntasks=2 --ntasks-per-node=1 --kill-on-bad-exit=1 --wait=60 \
    bash -c "$TASK" "$LOG_DIR/.continue" "$@" || return
  [ ! -e "$LOG_DIR/.continue" ] || return 200
}

run "$PYTHON" "${LAUNCH[@]}" -- "${TRAINER[@]}"

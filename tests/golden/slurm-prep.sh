#!/bin/bash
#SBATCH --job-name=prep
#SBATCH --comment=jobctl:/shared/jobctl/runs/prep
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --mem=0
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR2@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --kill-on-invalid-dep=yes

# prep of slimpajama_6b with qwen3. Made by jobctl 0.0.0: sbatch THIS_FILE, or pipe it into sbatch.
set -euo pipefail

JOBCTL_ROOT=/shared/jobctl
RUN=prep
RUN_DIR=$JOBCTL_ROOT/runs/$RUN
JOB_ID=$SLURM_JOB_ID
NODES=$SLURM_JOB_NODELIST
# --- environment ----------------------------------------------------------------------------------------
export OMP_NUM_THREADS=1
export PYTHONUNBUFFERED=1
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
{"spec_hash": "3c39367c57264a9f", "spec": {"after":[],"arguments":[],"facts":{"compute_capability":"","cpus":2,"device":"","gpu_product":"","image_variants":["cpu"],"memory_gib":4.0,"node_memory_gib":4,"peak_tflops":{},"shm_gib":1},"hardware":"cpu","inputs":{"dataset":"slimpajama_6b","image":"","image_variant":"cpu","sweep_batch_sizes":[],"tokenizer":"qwen3"},"kind":"prep","resources":{"gpus_per_node":0,"master_port":0,"max_attempts":50,"nodes":1,"processes_per_node":2,"stop_grace_seconds":300,"time_limit":"24:00:00"},"run":"prep","site":{"account":"","constraint":"","container_runtime":"none","context":"","cpus_per_task":0,"env":{},"exclude":"","exclusive":true,"gpu_request":"gpus-per-node","gpu_resource":"nvidia.com/gpu","gpu_type":"","mail_type":"END,FAIL","mail_user":"","memory":"0","modules":[],"mounts":[],"namespace":"jobctl","node_selector":{},"nodelist":"","partition":"","pass_env":[],"project_dir":"","pull_secret":"","pvc":"jobctl-workspace","python":"","qos":"","queue":"","rdma_resource":"","reservation":"","root":"/shared/jobctl","run_as_user":1000,"secret":"","tolerations":["nvidia.com/gpu"]},"site_name":"local","target":"slurm","version":"0.0.0"}}
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
  grep -Fq '"spec_hash": "3c39367c57264a9f"' "$RUN_DIR/run.json" ||
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

# --- what runs ------------------------------------------------------------------------------------------
PAYLOAD=(
  -m prep
  "--root=$JOBCTL_ROOT"
  --dataset=slimpajama_6b
  --tokenizer=qwen3
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
  supervise srun --nodes=1 --ntasks=1 --ntasks-per-node=1 --kill-on-bad-exit=1 --wait=60 \
    bash -c "$TASK" "$LOG_DIR/.continue" "$@" || return
  [ ! -e "$LOG_DIR/.continue" ] || return 200
}

run "$PYTHON" "${PAYLOAD[@]}"

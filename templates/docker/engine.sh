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

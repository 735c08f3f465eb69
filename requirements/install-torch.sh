#!/bin/sh
# Install the torch of requirements/ into an environment, checked by hash.
#   install-torch.sh ENVIRONMENT [OPTION…]
# The options are pip's, and choose where torch comes from. Without one, a machine that shows no NVIDIA GPU asks PyTorch's
# index of CPU builds first: the package index has only the build for CUDA for Linux on x86_64, which draws gigabytes.
set -eu

environment=$1
shift
requirements=$(dirname "$0")
wheels=$environment/torch
cpu_index=https://download.pytorch.org/whl/cpu

# run_pip ARGUMENT…: run the environment's pip, and print errors only.
run_pip() {
  "$environment/bin/pip" --quiet --quiet --disable-pip-version-check "$@"
}

# install_from OPTION…: take torch from there. pip would take a file whose hash the index tells before one on the disk, so
# it first downloads what it likes, and the hash is checked after.
install_from() {
  rm -rf "$wheels"
  run_pip download "$@" --no-deps --dest "$wheels" "$(grep '^torch==' "$requirements/run.txt")" &&
    run_pip install --no-warn-conflicts --no-deps --require-hashes --no-index --find-links "$wheels" \
      --requirement "$requirements/locked-torch.txt"
}

# install_cuda: add CUDA's libraries where torch is built for CUDA.
install_cuda() {
  if "$environment/bin/python" -c 'import importlib.metadata as m, sys; sys.exit("+cpu" in m.version("torch"))'; then
    run_pip install --no-warn-conflicts --no-deps --require-hashes --requirement "$requirements/locked-cuda.txt"
  fi
}

trap 'rm -rf "$wheels"' EXIT
if [ $# = 0 ] && ! nvidia-smi -L >/dev/null 2>&1; then
  echo "installing torch for a CPU: 192 MB"
  if install_from --retries 0 --timeout 15 --index-url "$cpu_index"; then exit 0; fi
  echo "$cpu_index gave no build for this Python that is known here" >&2
fi

echo "installing torch from the package index: a build for CUDA draws gigabytes of libraries"
install_from "$@"
install_cuda

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

# check_cdi: print an error if NVIDIA's CDI file is missing. Podman needs it for GPUs, but its own error does not
# say so.
check_cdi() {
  local folder
  for folder in ${JOBCTL_CDI_DIRS:-/etc/cdi /var/run/cdi}; do
    ! grep -qs 'nvidia.com/gpu' "$folder"/*.yaml "$folder"/*.json || return 0
  done
  echo "podman has no CDI file for NVIDIA's GPUs in ${JOBCTL_CDI_DIRS:-/etc/cdi and /var/run/cdi}; make it with:" \
    "sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml (for another folder, set JOBCTL_CDI_DIRS)"
  return 1
}

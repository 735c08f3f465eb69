# share_image: make one file of the image for all nodes and jobs of this user, and set IMAGE to it. If that fails, each
# node imports the image itself.
share_image() {
  local folder
  local file
  local child
  IMAGE=$JOB_IMAGE
  folder=$JOBCTL_ROOT/images/$(id -un)
  file=$folder/$(image_file_name) || return 0
  make_private "$folder"

  if [ ! -s "$file" ]; then
    import_image "$file" &
    child=$!
    # A signal ends wait. A job that must end does not wait for the image.
    while kill -0 "$child" 2>/dev/null; do
      wait "$child" || true
      leave_early
    done
  fi

  if [ -s "$file" ]; then
    IMAGE=$file
  else
    echo "jobctl: $JOB_IMAGE is not in $folder, so each node imports it"
  fi
}

# image_file_name: print the name of the image's file. If the importer can tell the image's digest, the name has it, so
# that a tag that was moved gives another file.
image_file_name() {
  local digest
  digest=$(timeout --kill-after=5 60 "$JOB_IMPORTER" digest "$JOB_IMAGE_ADDRESS" 2>/dev/null) || digest=""
  case $digest in
    sha256:*) echo "$JOB_IMAGE_NAME-${digest#sha256:}" ;;
    *)
      if [ "$JOB_IMAGE_IS_FIXED" != yes ]; then
        echo "jobctl: image $JOB_IMAGE may change, so each node imports it; give a tag or a digest" >&2
        return 1
      fi
      echo "$JOB_IMAGE_NAME"
      ;;
  esac
}

# import_image FILE: import the image into FILE, unless another job does so. The lock ends with the processes that hold
# it. A reader sees no file or the whole file.
import_image() {
  local part lock got=0
  part=$1.part-$JOB_ID-$BASHPID
  exec {lock}>"$1.lock"
  flock --nonblock --conflict-exit-code 75 "$lock" 2>/dev/null || got=$?
  if [ "$got" = 75 ]; then
    got=0
    echo "jobctl: waiting for another job that imports $JOB_IMAGE"
    flock --timeout "$JOB_IMPORT_SECONDS" --conflict-exit-code 75 "$lock" || got=$?
    [ "$got" != 75 ] || return 1
  fi

  # NFS may remember that the file was missing a moment ago. Reading the folder makes it look again.
  ls "${1%/*}" >/dev/null
  [ ! -s "$1" ] || return 0
  # Remove files of importers that were killed. With the lock no other importer works. Without the lock, only an old
  # file certainly belongs to a killed one.
  if [ "$got" = 0 ]; then
    rm -f "$1".part-*
  else
    echo "jobctl: the file system of ${1%/*} has no locks, so another job may import $JOB_IMAGE at the same time"
    find "${1%/*}" -name '*.part-*' -mmin +1440 -delete || true
  fi

  echo "jobctl: importing $JOB_IMAGE into $1"
  if make_image "$part" && sync "$part" && mv -f "$part" "$1"; then
    sync "${1%/*}"
  else
    rm -f "$part"
    return 1
  fi
}

make_image() {
  case $JOB_IMPORTER in
    enroot) enroot import --output "$1" "$JOB_IMAGE_ADDRESS" ;;
    apptainer) apptainer pull "$1" "$JOB_IMAGE_ADDRESS" ;;
  esac
}

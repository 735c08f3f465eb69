# make_private FOLDER: make a folder for files that a job executes. Its parent folder is for all users, so FOLDER must
# belong to this user.
make_private() {
  make_shared "${1%/*}"
  [ -d "$1" ] || mkdir -m 700 "$1" 2>/dev/null || [ -d "$1" ] || fail "$1 cannot be made"
  check_owned "$1"
}

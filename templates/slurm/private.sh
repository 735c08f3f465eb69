# make_private FOLDER: make a folder whose files a job executes, below one that is for everybody. It must be this user's.
make_private() {
  make_shared "${1%/*}"
  [ -d "$1" ] || mkdir -m 700 "$1" 2>/dev/null || [ -d "$1" ] || fail "$1 cannot be made"
  check_owned "$1"
}

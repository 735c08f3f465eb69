# make_cache FOLDER: make the folder for what compilers leave. The next job executes it, so it must be this user's own.
make_cache() {
  make_shared "${1%/*}"
  [ -d "$1" ] || mkdir -m 700 "$1" 2>/dev/null || [ -d "$1" ] || fail "$1 cannot be made"
  check_owned "$1"
}

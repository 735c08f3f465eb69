# Other users may write the shared root too. So the files and folders that this job executes or writes must belong
# to its user or to root. They must not be symbolic links. Nobody else may be able to change them, except the group
# that may write $JOBCTL_ROOT itself. JOB_TRUSTED names more owners; "everyone" allows any owner and any mode.

# check_run: check the run's directory and each file and folder in it, except STOP: anyone may ask a run to stop.
check_run() {
  local path
  check_owned "$RUN_DIR"
  for path in "$RUN_DIR"/* "$RUN_DIR"/.[!.]*; do
    case ${path##*/} in
      STOP | STOP.*) ;;
      *) check_owned "$path" ;;
    esac
  done
}

# check_owned PATH: fail if somebody else may have made this file, or may change it.
check_owned() {
  local mode uid gid user group
  [ ! -L "$1" ] || fail "$1 is a symbolic link, so this job would write to another place"
  case " ${JOB_TRUSTED[*]} " in *" everyone "*) return 0 ;; esac

  [ -e "$1" ] || return 0
  if ! IFS=: read -r mode uid gid user group < <(stat -c %a:%u:%g:%U:%G "$1" 2>/dev/null); then
    [ ! -e "$1" ] || fail "the owner of $1 cannot be read"
    return 0
  fi

  is_trusted "$uid" || fail "$1 belongs to $user ($uid), who can put any code into it; if you trust the owner, use --trust-owner $user"
  if ((8#$mode & 8#002)); then
    fail "everyone can change $1; use chmod o-w, or --trust-owner everyone"
  elif ((8#$mode & 8#020)) && ! is_own_group "$uid" "$gid" "$user" "$group"; then
    fail "group $group can change $1; use chmod g-w, or --trust-owner everyone"
  fi
}

# is_trusted UID: whether this job trusts the files of this owner.
is_trusted() {
  local name
  case $1 in 0 | "$(id -u)") return 0 ;; esac
  for name in "${JOB_TRUSTED[@]}"; do
    if [ "$1" = "$name" ] || [ "$1" = "$(id -u "$name" 2>/dev/null)" ]; then return 0; fi
  done
  return 1
}

# is_own_group UID GID USER GROUP: whether the group may write the root, or is the user's own group, which has the
# user's name.
is_own_group() {
  local mode gid
  IFS=: read -r mode gid < <(stat -L -c %a:%g "$JOBCTL_ROOT") || return 1
  if ((8#$mode & 8#020)) && [ "$gid" = "$2" ]; then return 0; fi
  if [ "$4" = UNKNOWN ]; then [ "$1" = "$2" ]; else [ "$3" = "$4" ]; fi
}

# read_secrets FILE: export the variables of JOB_SECRET_NAMES from FILE, which has lines of the form NAME=value. The
# file is read and not sourced, so that a value is never run as a command.
read_secrets() {
  local file=$1 line name wanted
  [ -e "$file" ] || return 0
  case $(stat -L -c %a "$file") in
    600 | 400) ;;
    *) fail "$file can be read by others: chmod 600 $file" ;;
  esac

  while IFS= read -r line || [ -n "$line" ]; do
    name=${line%%=*}
    for wanted in "${JOB_SECRET_NAMES[@]}"; do
      # A variable of the submitter's own environment has priority.
      if [ "$name" = "$wanted" ] && [ -z "${!name:-}" ]; then export "$name=${line#*=}"; fi
    done
  done <"$file"
}

# read_secrets FILE: export the variables that JOB_SECRET_NAMES lists from the lines NAME=value of FILE. The file is
# read and not sourced, so that a value is never a command.
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
      # The submitter's own environment goes first.
      if [ "$name" = "$wanted" ] && [ -z "${!name:-}" ]; then export "$name=${line#*=}"; fi
    done
  done <"$file"
}

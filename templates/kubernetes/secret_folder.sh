# read_secrets FOLDER: make a variable of each key of the mounted Secret. So no object and no log contains its value.
read_secrets() {
  local key name value
  for key in "$1"/*; do
    name=${key##*/}
    if [[ $name =~ ^[A-Za-z_][A-Za-z0-9_]*$ ]]; then
      value=$(cat "$key")
      export "$name=$value"
    fi
  done
}

# require_variables NAME...: end with a usage error if the Secret has no key for a variable that the job needs.
require_variables() {
  local name
  for name in "$@"; do
    [ -n "${!name:-}" ] || fail "pass_env $name: the Secret has no key of that name"
  done
}

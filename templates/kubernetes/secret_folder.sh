# read_secrets FOLDER: make a variable of each key of the mounted Secret, so that no object and no log holds its value.
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

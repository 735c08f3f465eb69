# load_modules NAME...: load the site's environment modules.
load_modules() {
  local name
  for name in "$@"; do
    module load "$name"
  done
}

# use_code_in FOLDER: use the Python code in FOLDER. python -m looks in the current folder first, which may be a
# checkout of the user who submits. So this shell also changes to FOLDER.
use_code_in() {
  export PYTHONPATH=$1/src${PYTHONPATH:+:$PYTHONPATH}
  cd "$1/src" || exit
}

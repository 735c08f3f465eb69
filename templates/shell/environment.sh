# load_modules NAME...: load the site's environment modules.
load_modules() {
  local name
  for name in "$@"; do
    module load "$name"
  done
}

# use_code_in FOLDER: run the Python code below FOLDER. python -m looks in the current folder first, and that may be
# a checkout of the user who submits.
use_code_in() {
  export PYTHONPATH=$1/src${PYTHONPATH:+:$PYTHONPATH}
  cd "$1/src" || exit
}

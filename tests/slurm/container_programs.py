"""Stand-ins for the container runtimes that cannot be had here. Each reads its words as the real one does.

They make no container: they check what the real program checks, give the command the environment that it would have
there, and run it in their own place.
"""

from __future__ import annotations

from pathlib import Path

IMAGE_ENVIRONMENT = """
IMAGE = {"JOBCTL_ROOT": "/workspace", "HOME": "/home/jobctl", "PYTHONUNBUFFERED": "1", "CONTAINER": "yes"}
"""

PODMAN_HPC = """#!/usr/bin/env python3
# A wrapper made with click, of which each module of the site is an option. click takes its options out of all words up
# to the first "--", takes that away too, and passes the rest to podman run. Podman's own options end at the image.
import os
import sys
{image}
MODULES = {{"gpu": "ENABLE_GPU", "nccl": "ENABLE_NCCL"}}
VALUED = ("--volume", "--env", "--device")

if sys.argv[1:2] != ["run"]:
    sys.exit("podman-hpc: only run is imitated")

words = sys.argv[2:]
end = words.index("--") if "--" in words else len(words)
modules = [word[2:] for word in words[:end] if word[2:] in MODULES]
rest = [word for word in words[:end] if word[2:] not in MODULES] + words[end + 1 :]

environment = dict(IMAGE) | {{MODULES[module]: "1" for module in modules}}
while rest and rest[0].startswith("-"):
    option = rest.pop(0)
    value = rest.pop(0) if option in VALUED else ""
    if option == "--env" and value in os.environ:
        environment[value] = os.environ[value]
    if option == "--volume" and not os.path.exists(value.split(":")[0]):
        sys.exit(f"Error: statfs {{value}}: no such file or directory")
    if option[2:] in ("mpi", "home", "nope"):
        sys.exit(f"Error: unknown flag: {{option}}")

image, *command = rest
environment["IMAGE"] = image
os.execvpe(command[0], command, {{"PATH": os.environ["PATH"], **environment}})
"""

SHIFTER = """#!/usr/bin/env python3
# getopt up to the first word that is no option. The job's environment is kept, but the image's variables replace those
# of the same name, and --env=NAME=VALUE replaces both.
import getopt
import os
import sys
{image}
TYPES = ("docker", "custom", "id", "local")
LONG = ["help", "volume=", "verbose", "image=", "entrypoint=", "workdir=", "module=", "env=", "env-file=", "clearenv"]

options, command = getopt.getopt(sys.argv[1:], "hnvV:i:e:Ew:m:", LONG)
environment = {{**os.environ, **IMAGE}}
for name, value in options:
    if name == "--image":
        kind, _, tag = value.partition(":")
        if kind not in TYPES or not tag or tag.startswith("/"):
            sys.exit(f"FAILED to lookup docker image {{value}}")
        environment["IMAGE"] = value
    if name == "--volume":
        source, target, *flags = value.split(":")
        blocked = target == "/opt" or target.startswith(("/etc", "/var")) and target != "/var/tmp"
        if blocked or any(flag != "ro" for flag in flags) or not os.path.isdir(source):
            sys.exit("Failed to parse volume map options")
    if name == "--module" and not set(value.split(",")) <= {{"gpu", "nccl", "none"}}:
        sys.exit(f"Invalid shifter module selection: {{value}}")
    if name == "--module":
        environment["MODULES"] = value
    if name == "--env":
        key, equals, text = value.partition("=")
        if not key or not text:
            sys.exit(f"Improperly formatted environment variable: {{value}}")
        environment[key] = text

os.execvpe(command[0], command, environment)
"""

SRUN = """#!/usr/bin/env python3
# srun with the plug-in pyxis. A step with an image runs by "in-container" on each node, all others as they are.
import os
import shutil
import sys

words = sys.argv[1:]
count = next(at for at, word in enumerate(words) if not word.startswith("-"))
options, command = words[:count], words[count:]
own = [word for word in options if "container-" in word]
names = [word.partition("=")[0] for word in own]
for name in ("--container-image", "--container-name"):
    if names.count(name) > 1:
        sys.exit(f"slurmstepd: error: pyxis: {{name}} specified multiple times")

here = os.path.dirname(os.path.realpath(__file__))
real = shutil.which("srun", path=os.environ["PATH"].replace(here, "/none"))
if own:
    command = [f"{{here}}/in-container", *own, "--", *command]
os.execv(real, ["srun", *[word for word in options if word not in own], *command])
"""

IN_CONTAINER = """#!/usr/bin/env python3
# What pyxis does on a node: it imports an image, unless it is a file; unpacks it, unless a container has that name; and
# removes what has no name.
import os
import sys
{image}
words = sys.argv[1:]
end = words.index("--")
options = dict(word.partition("=")[::2] for word in words[:end])
store = os.path.join(os.environ["STAND_INS"], os.environ["SLURMD_NODENAME"])
os.makedirs(store, exist_ok=True)

def say(text):
    with open(os.path.join(os.environ["STAND_INS"], "calls"), "a") as calls:
        print(os.environ["SLURMD_NODENAME"], text, file=calls)

source = options["--container-image"]
name = options.get("--container-name")
container = os.path.join(store, f"pyxis_{{name}}")
if name and os.path.isdir(container):
    say("reuse")
else:
    if source[0] in "./":
        if not os.path.isfile(source):
            sys.exit(f"pyxis: {{source}}: no such file")
    else:
        say(f"import {{source}}")
    say("create")
    if name:
        os.mkdir(container)

kept = options.get("--container-env", "").split(",")
environment = {{**os.environ, **{{key: value for key, value in IMAGE.items() if key not in kept}}}}
os.execvpe(words[end + 1], words[end + 1 :], environment)
"""

ENROOT = """#!/bin/bash
# digest (where the file "digest" is), import (which writes its file bit by bit), list and remove.
set -e
store=$STAND_INS/${{SLURMD_NODENAME:-none}}
case $1 in
  digest) cat "$STAND_INS/digest" ;;
  import)
    [ "$2" = --output ] && [ "$#" = 4 ] || exit 2
    [ ! -e "$3" ] || {{ echo "[ERROR] File already exists: $3" >&2; exit 1; }}
    echo "$4" >>"$STAND_INS/imports"
    [ ! -e "$STAND_INS/refuse" ] || {{ echo "[ERROR] Could not process JSON input" >&2; exit 1; }}
    printf 'hsqs-half' >"$3"
    while [ -e "$STAND_INS/hold" ]; do sleep 0.05; done
    printf -- '-whole' >>"$3"
    ;;
  list) ls "$store" 2>/dev/null || true ;;
  remove) [ "$2" = --force ] && echo "$3" >>"$STAND_INS/removed" && rm -r "${{store:?}}/$3" ;;
  *) exit 2 ;;
esac
"""

APPTAINER = """#!/bin/bash
# pull, into a file that is not there yet
[ "$1" = pull ] && [ ! -e "$2" ] || exit 2
echo "$3" >>"$STAND_INS/imports"
echo SIF >"$2"
"""

PROGRAMS = {
    "podman-hpc": PODMAN_HPC,
    "shifter": SHIFTER,
    "srun": SRUN,
    "in-container": IN_CONTAINER,
    "enroot": ENROOT,
    "apptainer": APPTAINER,
}


def install(folder: Path, *names: str) -> str:
    """Make stand-ins in ``folder``, and return the folder as the beginning of a search path."""
    folder.mkdir(exist_ok=True)
    for name in names or ("podman-hpc", "shifter"):
        (folder / name).write_text(PROGRAMS[name].format(image=IMAGE_ENVIRONMENT))
        (folder / name).chmod(0o755)

    return str(folder)

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

PROGRAMS = {"podman-hpc": PODMAN_HPC, "shifter": SHIFTER}


def install(folder: Path) -> str:
    """Make the stand-ins in ``folder``, and return the folder as the beginning of a search path."""
    folder.mkdir(exist_ok=True)
    for name, text in PROGRAMS.items():
        (folder / name).write_text(text.format(image=IMAGE_ENVIRONMENT))
        (folder / name).chmod(0o755)

    return str(folder)

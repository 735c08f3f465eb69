"""Names of environment variables that no setting may set. bash or a job's script uses them.

``tests/jobs/spec/test_reserved.py`` finds both kinds, in bash and in the templates. It compares them with
this list.
"""

from __future__ import annotations

PREFIXES = ("BASH", "EXIT_", "JOB_", "COMP_")
"""Every name with one of these prefixes is reserved."""
OF_BASH = frozenset(
    (
        *("DIRSTACK", "EPOCHREALTIME", "EPOCHSECONDS", "EUID", "GROUPS", "HISTCMD", "HOSTTYPE", "IFS"),
        *("LINENO", "MACHTYPE", "OPTERR", "OPTIND", "OSTYPE", "PPID", "PWD", "RANDOM", "SECONDS"),
        *("SHELLOPTS", "SHLVL", "SRANDOM", "UID", "_"),
        # These change how bash reads the script.
        *("ENV", "FUNCNAME", "GLOBIGNORE", "OLDPWD", "PIPESTATUS", "POSIXLY_CORRECT", "REPLY"),
    )
)
OF_THE_SCRIPT = frozenset(
    (
        *(
            "ATTEMPT",
            "BATCH_LOG",
            "CACHE",
            "CLOCK",
            "CODE_FILE",
            "CONTAINER_COMMAND",
            "DEAD",
            "DESK",
            "END",
            "ENDED",
        ),
        *("ENGINE", "ENGINE_VERSION", "FIRST_CHECKPOINT", "FOLLOWERS", "HOSTS", "HOST_ROOT", "HOST_RUN_DIR"),
        *(
            "IMAGE",
            "IN_TIME",
            "JOBCTL_INTERFACE",
            "JOBCTL_ROOT",
            "LAUNCH",
            "LIMITS",
            "LIVE",
            "LOG_DIR",
            "NAME",
            "NODE",
        ),
        *("NODES", "OPTIONS", "PAYLOAD", "PET_RDZV_CONF", "POD", "PREFLIGHT", "PYTHON"),
        *(
            "RENDEZVOUS_HOST",
            "RENDEZVOUS_PORT",
            "RUN",
            "RUN_DIR",
            "SLURM_EXPORT_ENV",
        ),
        *("SLURMD_NODENAME", "SLURM_JOB_CPUS_PER_NODE", "SLURM_JOB_ID", "SLURM_JOB_NODELIST", "STEP_NAME"),
        *(
            "STARTED",
            "STOP",
            "TASKS",
            "TASK_INDEX",
            "TEE",
            "TERMINATED",
            "TERMINATION_LOG",
            "THREADS",
            "TIME_IS_UP",
        ),
        *("TRAINER", "VARIANT", "WARNED"),
        "WATCHED",
    )
)
MAY_BE_SET = frozenset(
    (*("HOME", "HOSTNAME", "JOBCTL_ENGINE", "PATH", "PS4", "PYTHONPATH", "SHELL", "TERM", "USER"),)
)
"""Names that a script extends, or sets when it needs them. Another value causes no fault."""


def is_reserved(name: str) -> bool:
    """Return whether no setting may set the variable ``name``."""
    return name in OF_BASH or name in OF_THE_SCRIPT or name.startswith(PREFIXES)

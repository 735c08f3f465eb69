"""Hints for jobs that Slurm refuses or will never start."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass


class Hint(enum.Enum):
    """Advice for the user, as commands and options to type."""

    TIME_LIMIT = "sinfo -o '%P %l' shows each partition's limit; ask for less with --set time_limit=…"
    NODE_LIMIT = "sinfo -o '%P %s' shows how many nodes a job may have; ask for fewer with --nodes"
    NODE_SHAPE = "no node has what the job asks for: sinfo -o '%P %D %c %m %G %f' shows what there is"
    PARTITION = "sinfo -s lists the partitions; name one in the site file or with --set slurm.partition=…"
    ACCOUNT = "sacctmgr show associations user=$USER lists your accounts; set slurm.account in the site file"
    QOS = "sacctmgr show qos lists them; set slurm.qos in the site file"
    RESERVATION = "scontrol show reservation lists them; set slurm.reservation in the site file"
    GPU_NAME = "sinfo -o '%P %G' shows how GPUs are called here; see slurm.gpu_request and slurm.gpu_type"
    FEATURE = "sinfo -o '%P %f' lists the features that slurm.constraint may name"
    POLICY = "a limit of your account or QoS refuses it: sacctmgr show associations user=$USER"
    SETUP = "Slurm is not set up on this machine: is it a login node? is SLURM_CONF needed?"
    CLUSTER = "sacctmgr list clusters shows them; set slurm.cluster in the site file"
    NO_CLUSTERS = "take slurm.cluster out of the site file; to use another cluster, submit on its login node"
    RIGHTS = "Slurm does not let this user do that"
    LENGTH = "Slurm takes at most 1024 bytes for a name, a comment or a path"


@dataclass(frozen=True)
class Refusal:
    """A refusal in Slurm's free text: its typical words, in small letters, and the advice."""

    words: str
    hint: Hint


REFUSALS = (
    Refusal("no cluster", Hint.CLUSTER),
    Refusal("no database of clusters", Hint.NO_CLUSTERS),
    Refusal("time limit", Hint.TIME_LIMIT),
    Refusal("node limit", Hint.NODE_LIMIT),
    Refusal("node configuration", Hint.NODE_SHAPE),
    Refusal("partition", Hint.PARTITION),
    Refusal("account", Hint.ACCOUNT),
    Refusal("qos", Hint.QOS),
    Refusal("reservation", Hint.RESERVATION),
    Refusal("gres", Hint.GPU_NAME),
    Refusal("feature", Hint.FEATURE),
    Refusal("policy", Hint.POLICY),
    Refusal("configuration source", Hint.SETUP),
    Refusal("configuration file", Hint.SETUP),
    Refusal("cannot stat file", Hint.SETUP),
    Refusal("unable to resolve", Hint.SETUP),
    Refusal("permission", Hint.RIGHTS),
    Refusal("too long", Hint.LENGTH),
)
"""The first match wins. So an entry is before entries whose words its messages may also contain."""

NEVER_STARTS = {
    "BadConstraints": Hint.NODE_SHAPE,
    "PartitionTimeLimit": Hint.TIME_LIMIT,
    "PartitionNodeLimit": Hint.NODE_LIMIT,
    "InvalidAccount": Hint.ACCOUNT,
    "InvalidQOS": Hint.QOS,
}
"""Reasons for waiting that never end. Many sites let sbatch accept such a job."""


def refusal_hint(answer: str) -> str:
    """Return the advice after a refusal in Slurm's words, or an empty text for unknown words."""
    # Code words such as BadConstraints are split, because the table has plain words.
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", answer).lower()
    return next((refusal.hint.value for refusal in REFUSALS if refusal.words in spaced), "")

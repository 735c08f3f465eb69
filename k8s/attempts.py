"""The attempt of a running pod. The first line of its log says it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from jobctl.k8s.pods import Pod
from jobctl.k8s.resources import POD

if TYPE_CHECKING:
    from jobctl.k8s.api import Api

ATTEMPT_LINE = re.compile(r"jobctl: run \S+, attempt (\d+), pod \d+ on ")
"""The first line that ``templates/kubernetes/script.sh.j2`` prints."""
HEAD_BYTES = 16384
"""Bytes of the log that are read. A pod prints a line for each other pod that it waits for."""


def read_attempt(api: Api, namespace: str, pod: Pod) -> int:
    """Return the number of the attempt, or 0 if the log does not say it yet. Raises UserError."""
    query = {"container": pod.container, "limitBytes": str(HEAD_BYTES)}
    path = f"{POD.path(namespace, pod.name)}/log"
    try:
        text = b"".join(api.stream(path, query, f"reading the log of {pod.name}")).decode("utf-8", "replace")
    except ConnectionError:
        return 0

    for line in text.splitlines():
        if begins := ATTEMPT_LINE.match(line):
            return int(begins[1])

    return 0

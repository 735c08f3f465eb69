"""Progress, time left and metrics of a run in the status of its TrainJob, so that ``kubectl get`` shows them.

Kubeflow Trainer (2.2 and later, feature gate ``TrainJobStatus``) names an HTTPS address, a token and the
certificate of its authority to each pod. It is a tracker like the others: it has a thread of its own, and
nothing that it meets ends a run.
"""

from __future__ import annotations

import http.client
import logging
import math
import os
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from jobctl.jobs.core.stamps import utc_stamp

if TYPE_CHECKING:
    from jobctl.trainer.reporting.trackers import Series

log = logging.getLogger(__name__)
PREFIXES = ("KUBEFLOW_TRAINER_SERVER_", "KUBEFLOW_TRAINER_STATUS_")
"""Prefixes of the variables: in releases, and in the earlier proposal (KEP-2779)."""
INTERVAL_SECONDS = 5.0
"""Seconds between two posts, as the documentation asks of clients."""
LONGEST_INTERVAL_SECONDS = 300.0
"""Between two posts to a server that does not answer."""
TIMEOUT_SECONDS = 5.0
MOST_METRICS = 256
LONGEST_TEXT = 64
LARGEST_INT32 = 2**31 - 1
"""Bounds of the TrainJob's schema."""


class Endpoint(NamedTuple):
    """The address of a status. The files are read for each post, since both change while a job runs."""

    url: str
    token_file: Path
    ca_file: Path


def endpoint(environment: Mapping[str, str] = os.environ) -> Endpoint | None:
    """Return the address for posts.

    None outside of a TrainJob that wants it, and for an address that is not HTTPS.
    """
    for prefix in PREFIXES:
        url, token, ca_file = (environment.get(prefix + name, "") for name in ("URL", "TOKEN", "CA_CERT"))
        # Without encryption anybody on the way would read the token.
        if url.startswith("https://") and token and ca_file:
            return Endpoint(url, Path(token), Path(ca_file))

    return None


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """The token is for one server alone."""

    def redirect_request(self, *_: Any) -> None:
        return None


def post(target: Endpoint, body: bytes) -> None:
    """Send one status. Raises OSError (also for a refusal), ValueError or HTTPException."""
    context = ssl.create_default_context(cafile=str(target.ca_file))
    # A proxy of the environment does not reach a service inside the cluster.
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context), _NoRedirects
    )
    token = target.token_file.read_text(encoding="ascii").strip()
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    request = urllib.request.Request(target.url, data=body, headers=headers, method="POST")
    with opener.open(request, timeout=TIMEOUT_SECONDS) as answer:
        # Read, so that the connection ends in order, but never without a limit.
        answer.read(1 << 16)


def status(
    step: int, max_iters: int, seconds_left: float | None, metrics: Mapping[str, float], now: float
) -> dict[str, Any]:
    """Return the body of a post; ``now`` is in seconds since the epoch."""
    told: dict[str, Any] = {
        "progressPercentage": max(0, min(100, 100 * step // max_iters)) if max_iters > 0 else 0,
        "metrics": [
            {"name": name[:LONGEST_TEXT], "value": f"{value:.6g}"}
            for name, value in list(metrics.items())[:MOST_METRICS]
            if name
        ],
        "lastUpdatedTime": utc_stamp(now),
    }
    if seconds_left is not None and math.isfinite(seconds_left):
        told["estimatedRemainingSeconds"] = min(LARGEST_INT32, max(0, round(seconds_left)))

    return {"trainerStatus": told}


class TrainJobStatus:
    """The status of one attempt. Between two posts it keeps the newest values."""

    def __init__(
        self,
        series: Series,
        target: Endpoint | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        chosen = target or endpoint()
        assert chosen is not None
        self.target = chosen
        self.clock = clock
        self.max_iters = int(series.config.get("max_iters", 0))
        self.step = series.resumed_step or 0
        self.milliseconds = math.nan
        self.metrics: dict[str, float] = {}
        self.interval = INTERVAL_SECONDS
        self.due = clock()
        self.has_news = True
        self.has_warned = False
        # At once, so that the TrainJob shows the attempt before its first step.
        self.send_when_due()

    def log(self, step: int, values: dict[str, float]) -> None:
        """Take the values of a step, and send them if a post is due."""
        self.step = max(self.step, step)
        self.milliseconds = values.get("dt_ms", self.milliseconds)
        self.metrics.update(values)
        self.metrics["step"] = self.step
        self.has_news = True
        self.send_when_due()

    def close(self) -> None:
        """Send the values that are not sent yet."""
        if self.has_news:
            self.send()

    def send_when_due(self) -> None:
        if self.clock() >= self.due:
            self.send()

    def send(self) -> None:
        """Post the newest values.

        What goes wrong is said once, and tried again later, more and more seldom.
        """
        seconds_left = (self.max_iters - self.step) * self.milliseconds / 1e3
        body = status(self.step, self.max_iters, seconds_left, self.metrics, time.time())
        try:
            post(self.target, msgspec.json.encode(body))
            self.interval = INTERVAL_SECONDS
            self.has_news = False
        except (OSError, ValueError, http.client.HTTPException) as error:
            self.interval = min(LONGEST_INTERVAL_SECONDS, 2 * self.interval)
            if not self.has_warned:
                log.warning("the TrainJob's status is not written: %s; it is tried again", error)

            self.has_warned = True

        # Counted from the end of the post, so that a slow server gets its pause.
        self.due = self.clock() + self.interval

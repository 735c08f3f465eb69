"""Send the events of runs to a webhook or a command. It only watches runs, so it cannot stop one.

The address of a webhook is a secret with most services, so the project file names the variable that holds it.
"""

from __future__ import annotations

import os
import queue
import subprocess
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping

import msgspec

from jobctl.jobs.core.errors import UserError, nearest
from jobctl.jobs.monitoring.events import Event, events
from jobctl.jobs.monitoring.glance import Glance
from jobctl.jobs.monitoring.notify_settings import KINDS, Notify

PATIENCE_SECONDS = 20.0
"""Seconds that a webhook or a command may take for one event."""
CLOSING_SECONDS = 30.0
ENDED = {"finished": "finished", "failed": "failed", "cancelled": "been cancelled"}
WAITING = 100
"""Events that wait for a slow receiver. Later ones are dropped."""


Say = Callable[[str], None]
Send = Callable[[Event], None]


def receivers(settings: Notify, environment: Mapping[str, str]) -> list[Send]:
    """Return the receivers of the events. Raises UserError if a setting is invalid."""
    for kind in settings.on:
        if kind not in KINDS:
            raise UserError(f"jobctl.yaml: notify.on: unknown event '{kind}'; {nearest(kind, KINDS)}")

    sends: list[Send] = []
    if name := settings.webhook_variable:
        address = environment.get(name, "")
        # `urlopen` would also open `file:` addresses.
        if urllib.parse.urlsplit(address).scheme not in ("http", "https"):
            raise UserError(
                f"jobctl.yaml: notify.webhook_variable: {name} must hold an http or https address",
                hint=f"export {name}=https://…; do not write it into a file that others can read",
            )

        sends.append(lambda event: post(address, event))

    if settings.command:
        sends.append(lambda event: run(settings.command, event))

    if not sends:
        raise UserError(
            "--notify has no receiver: jobctl.yaml has neither notify.webhook_variable nor notify.command",
            hint="docs/monitoring.md has an example",
        )

    return sends


def post(address: str, event: Event) -> None:
    """Send an event as JSON. Raises OSError."""
    request = urllib.request.Request(
        address,
        data=msgspec.json.encode(event),
        headers={"Content-Type": "application/json", "User-Agent": "jobctl"},
    )
    with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:
        # The read is bounded, because a webhook may send an answer of any length.
        answer.read(1 << 16)


def run(command: tuple[str, ...], event: Event) -> None:
    """Run a command with the event on its standard input. Raises OSError, subprocess.SubprocessError."""
    subprocess.run(
        command,
        input=msgspec.json.encode(event) + b"\n",
        # The command's output would appear inside the live view.
        stdout=subprocess.DEVNULL,
        # The last line of its errors becomes the reason in `reason_of`.
        stderr=subprocess.PIPE,
        timeout=PATIENCE_SECONDS,
        check=True,
    )


def reason_of(error: Exception) -> str:
    """Return the reason why an event was not delivered, without the receiver's address."""
    if isinstance(error, urllib.error.HTTPError):
        return f"the webhook answers {error.code}"

    if isinstance(error, subprocess.CalledProcessError):
        last = (error.stderr or b"").decode("utf-8", "replace").strip().splitlines()[-1:]
        return f"the command failed with exit code {error.returncode}: {' '.join(last)}"

    if isinstance(error, subprocess.TimeoutExpired):
        return f"the command took longer than {PATIENCE_SECONDS:.0f} s"

    # Other messages may repeat the address.
    return type(error).__name__


class Notifier:
    """Compares looks at runs and sends new events.

    It has a thread of its own, so no receiver can hold up a watch.
    """

    def __init__(self, settings: Notify, say: Say, environment: Mapping[str, str] = os.environ) -> None:
        self.settings = settings
        self.say = say
        self.sends = receivers(settings, environment)
        self._before: dict[str, Glance] = {}
        self._events: queue.Queue[Event | None] = queue.Queue(WAITING)
        # daemon: a receiver that hangs must not keep the watch from ending.
        self._thread = threading.Thread(target=self._deliver, name="notify", daemon=True)
        self._thread.start()

    def see(self, look: Glance) -> None:
        """Take a new look at a run, and send the events since the last one."""
        before = self._before.get(look.run)
        if before is None and look.has_ended:
            # Otherwise the receiver would wait for the event of the end.
            self.say(f"{look.run} has {ENDED[look.state]} already, so no message is sent")

        for event in events(before, look):
            if event.event in self.settings.on:
                try:
                    self._events.put_nowait(event)
                except queue.Full:
                    self.say(f"message not sent, because the receiver is too slow: {event.text}")

        self._before[look.run] = look

    def close(self) -> None:
        """Wait a moment until the last events arrive."""
        try:
            # None ends the thread after all earlier events were sent.
            self._events.put(None, timeout=CLOSING_SECONDS)
        except queue.Full:
            return

        self._thread.join(CLOSING_SECONDS)

    def _deliver(self) -> None:
        while (event := self._events.get()) is not None:
            for send in self.sends:
                try:
                    send(event)
                except Exception as error:  # after any error of a receiver, the next event is sent
                    self.say(f"message about {event.event} of {event.run} not sent: {reason_of(error)}")

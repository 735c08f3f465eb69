"""Turn the messages of a failed ssh into words that name a remedy."""

from __future__ import annotations

import msgspec

from jobctl.jobs.core.errors import UserError


class Failure(msgspec.Struct, frozen=True):
    """A failure of ssh: words of its message, their meaning for ``{host}``, and the remedy."""

    said: str
    means: str
    hint: str


BY_HAND = "log in once by hand: ssh {host}"
NETWORK = "is the network up that reaches it (VPN)? ssh {host} must work first"
CLOSED = "{host} closed the connection before the login"
AWAY = "{host} cannot be reached from here"
IDENTITY = "name one: IdentityFile and IdentitiesOnly in ~/.ssh/config"
KEY = "ssh-copy-id {host}; where it also asks for a code, log in first: {by_hand}"
FAILURES = (
    Failure(
        "REMOTE HOST IDENTIFICATION HAS CHANGED",
        "the host key of {host} is another one than before",
        "ask the site whether it was changed; if so: ssh-keygen -R HOST, then log in once by hand: ssh {host}",
    ),
    Failure(
        "Host key verification failed",
        "the host key of {host} is not known yet",
        "log in once by hand and compare it with the one that the site publishes: ssh {host}",
    ),
    Failure("Could not resolve hostname", "no host {host}: its name cannot be looked up", NETWORK),
    Failure("Connection refused", "{host} refuses the connection: no ssh server listens there", NETWORK),
    Failure("timed out", "{host} does not answer", NETWORK),
    Failure("No route to host", AWAY, NETWORK),
    Failure("Network is unreachable", AWAY, NETWORK),
    Failure("Too many authentication failures", "{host} refuses after too many keys", IDENTITY),
    Failure("Permission denied", "{host} accepts none of your keys", KEY),
    Failure("Connection closed by", CLOSED, BY_HAND),
    Failure("Connection reset by", CLOSED, BY_HAND),
    Failure("Bad owner or permissions", "ssh refuses your configuration", BY_HAND),
)
"""In the order of the search: ssh prints the last line of one failure in other failures as well."""
SHOWN_CHARACTERS = 300


def failure(said: str, host: str, by_hand: str) -> UserError:
    """Return the error for the output ``said`` of ssh about ``host``.

    ``by_hand`` is the command that keeps a login open.
    """
    for known in FAILURES:
        if known.said in said:
            hint = known.hint.format(host=host, by_hand=by_hand)
            return UserError(f"{known.means.format(host=host)}{in_brackets(said)}", hint=hint, code=1)

    # Words of ssh that are not in the table still help. The message shows them in brackets.
    return UserError(f"no connection to {host}{in_brackets(said)}", hint=BY_HAND.format(host=host), code=1)


def in_brackets(said: str) -> str:
    """Return the last line of ssh's output, for the end of a message, or "" if ssh printed nothing."""
    lines = [line.strip().removeprefix("ssh: ") for line in said.splitlines() if line.strip()]
    return f" (ssh: {lines[-1][:SHOWN_CHARACTERS]})" if lines else ""

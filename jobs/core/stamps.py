"""Times in UTC in the form of ISO 8601. The files of a run and Kubernetes use this form."""

from __future__ import annotations

from datetime import datetime, timezone


def utc_stamp(seconds: float | None = None) -> str:
    """Return ``2026-11-29T01:00:00Z`` for a time in seconds since 1970, or for now."""
    moment = datetime.now(timezone.utc) if seconds is None else datetime.fromtimestamp(seconds, timezone.utc)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def seconds_of(stamp: str | None) -> float | None:
    """Return a time in ISO 8601 as seconds since 1970, or None if ``stamp`` is not a time.

    A time without a zone is in UTC.
    """
    if stamp is None:
        return None

    try:
        # Python 3.10 does not read the letter Z.
        time = datetime.fromisoformat(stamp.replace("Z", "+00:00"))
    except ValueError:
        return None

    return (time if time.tzinfo else time.replace(tzinfo=timezone.utc)).timestamp()

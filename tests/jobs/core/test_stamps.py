"""Times in UTC, in the form of ISO 8601."""

from __future__ import annotations

import time

from jobctl.jobs.core.stamps import seconds_of, utc_stamp


def test_times_are_utc_where_they_name_no_zone() -> None:
    assert seconds_of("1970-01-01T01:00:00") == 3600.0
    assert seconds_of("1970-01-01T01:00:00Z") == 3600.0
    assert seconds_of("1970-01-01T01:00:00+01:00") == 0.0


def test_other_text_is_no_time() -> None:
    assert [seconds_of(text) for text in (None, "", "soon", "2026-13-01T00:00:00Z")] == [None] * 4


def test_a_stamp_is_read_back_whatever_the_zone_of_the_machine() -> None:
    assert utc_stamp(86400.9) == "1970-01-02T00:00:00Z"
    assert seconds_of(utc_stamp(1_750_000_000)) == 1_750_000_000


def test_without_a_time_the_stamp_is_now() -> None:
    before = int(time.time())
    stamped = seconds_of(utc_stamp())
    assert stamped is not None
    assert before <= stamped <= time.time()

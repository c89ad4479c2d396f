"""Wall-clock time as files have it."""

import datetime


def utc(at_s: float) -> str:
    """Return seconds since 1970 as a UTC time with milliseconds: 2026-01-01T00:00:00.000+00:00."""
    return datetime.datetime.fromtimestamp(at_s, datetime.UTC).isoformat(timespec="milliseconds")

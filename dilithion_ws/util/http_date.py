"""The date as HTTP has it."""

from __future__ import annotations

import time

from .clock import unix_time

__all__ = ["format_http_date", "http_date"]

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_latest = (-1, b"")


def http_date() -> bytes:
    """Return the present date for a Date header. It is formatted once a second."""
    global _latest
    second = int(unix_time())
    if _latest[0] != second:
        _latest = second, format_http_date(second)
    return _latest[1]


def format_http_date(second: int) -> bytes:
    """Return a Unix time in the format IMF-fixdate (RFC 9110 section 5.6.7), which no locale changes."""
    moment = time.gmtime(second)
    day, month = _DAYS[moment.tm_wday], _MONTHS[moment.tm_mon - 1]
    clock = f"{moment.tm_hour:02}:{moment.tm_min:02}:{moment.tm_sec:02}"
    return f"{day}, {moment.tm_mday:02} {month} {moment.tm_year} {clock} GMT".encode()

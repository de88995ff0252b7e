from __future__ import annotations

from email.utils import format_datetime, parsedate_to_datetime

import pytest

from dilithion_ws.util.http_date import format_http_date, http_date


@pytest.mark.parametrize("second", [0, 784_111_777, 1_709_164_800, 4_102_444_799])
def test_it_is_the_date_of_the_rfc(second: int) -> None:
    text = format_http_date(second).decode()
    moment = parsedate_to_datetime(text)
    assert moment.timestamp() == second
    assert format_datetime(moment, usegmt=True) == text


def test_the_present_date_moves_with_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dilithion_ws.util.http_date.unix_time", lambda: 784_111_777.9)
    assert http_date() == b"Sun, 06 Nov 1994 08:49:37 GMT"
    monkeypatch.setattr("dilithion_ws.util.http_date.unix_time", lambda: 784_111_778.0)
    assert http_date() == b"Sun, 06 Nov 1994 08:49:38 GMT"

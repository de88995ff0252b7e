from __future__ import annotations

import sys

import pytest

from dilithion_ws.util.host_code import call_host


def test_what_would_end_a_thread_is_an_ordinary_error() -> None:
    assert call_host(max, 1, 2) == 2
    with pytest.raises(ZeroDivisionError):
        call_host(lambda: 1 // 0)
    with pytest.raises(RuntimeError, match="the host raised SystemExit"):
        call_host(sys.exit)

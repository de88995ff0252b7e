"""All clients on a link that delays and loses packets, and dies for a while."""

from __future__ import annotations

import pytest

from benchmarks.lossy_link import has_links
from benchmarks.phone import run

from ..support.programs import NODE_MODULES, needs_node


@pytest.mark.load
@needs_node
@pytest.mark.skipif(not has_links(), reason="needs root, ip, and /dev/net/tun")
def test_events_arrive_late_but_all_of_them() -> None:
    reports = run(delay=0.05, loss=0.1, calm=4.0, dead=3.0, modules=NODE_MODULES)
    assert len(reports) == 3
    for report in reports:  # that none is missing or comes twice was looked at there
        assert report.lags[0] >= 0.05
        assert report.ticks > 10

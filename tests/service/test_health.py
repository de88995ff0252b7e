"""`GET /health`: of the server, and of what the host depends on."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dilithion_ws import Config, ConfigError, RpcTable, WebSocketServer
from dilithion_ws.service.health import HealthReports

from ..support.http import request


def health(server: WebSocketServer, query: str = "") -> tuple[int, Any]:
    status, _, body = request(server, "GET", f"/health{query}")
    return status, json.loads(body)


def test_a_report_of_the_host_counts_for_those_who_ask_for_it(rpc: RpcTable) -> None:
    with WebSocketServer(rpc, Config()) as server:
        assert health(server, "?node=1")[0] == 503, "what was not reported is not known to be good"
        assert health(server, "?t=17")[0] == 200, "a query that asks for nothing"
        server.health.report("node", False, {"state": "down", "reason": "x"})
        server.health.report("disk", True)
        status, found = health(server)
        assert status == 200
        assert found["node"] == {"good": False, "state": "down", "reason": "x"}
        statuses = [health(server, query)[0] for query in ("?node=1", "?node", "?disk=1", "?disk&node", "?node=0")]
        assert statuses == [503, 503, 200, 503, 200]
        server.health.report("node", True)
        assert health(server, "?node=1") == (200, {**found, "node": {"good": True}})


@pytest.mark.parametrize("name", ["live", "ready", "version"])
def test_the_server_s_own_members_cannot_be_reported(name: str) -> None:
    with pytest.raises(ConfigError, match="can't be reported"):
        HealthReports().report(name, True)


def test_reports_are_bounded() -> None:
    reports = HealthReports()
    for number in range(64):
        reports.report(f"n{number}", True)
    with pytest.raises(ConfigError, match="too many"):
        reports.report("one more", True)
    reports.report("n0", False)
    assert reports.all()["n0"] == {"good": False}


@pytest.mark.parametrize("details", [{"x": b"1"}, {"x": float("nan")}, {"x": "y" * 5000}])
def test_details_that_cannot_be_sent_are_refused(details: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"not JSON|characters"):
        HealthReports().report("node", True, details)


def test_details_do_not_decide_whether_it_is_good() -> None:
    reports = HealthReports()
    reports.report("node", False, {"good": True})
    assert reports.all()["node"] == {"good": False}

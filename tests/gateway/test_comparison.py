"""A real node and the same node behind the gateway: each difference has a reason."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ..support.comparison import compare, core_calls
from ..support.gateways import GatewayFactory, put
from ..support.http import request
from ..support.litecoin import Litecoin, needs_litecoind

pytestmark = [needs_litecoind, pytest.mark.timeout(120)]


def test_every_difference_has_a_reason(litecoin: Litecoin, gateways: GatewayFactory) -> None:
    gateway = put(litecoin, gateways)
    litecoin.call("createwallet", "w")

    def post(body: bytes) -> tuple[int, Any]:
        status, _, answer = request(gateway.server, "POST", "/", body)
        return status, json.loads(answer)

    calls = core_calls(litecoin)
    assert len(calls) > 80
    found = list(compare(litecoin, calls, gateway.server.url, post))
    assert [difference for difference in found if not difference.reason] == []

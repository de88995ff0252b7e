"""The thread that polls the node, one step after the other, in this thread and with a clock that the test sets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from dilithion_ws import RpcTable, WebSocketServer
from dilithion_ws.gateway.dialects.bitcoin_core import CORE
from dilithion_ws.gateway.gateway_config import GatewayConfig
from dilithion_ws.gateway.node_client import CircuitBreaker, NodeClient
from dilithion_ws.gateway.node_status import NodeState
from dilithion_ws.gateway.poller_thread import NODE_TOPIC, PollerThread
from dilithion_ws.gateway.response_parser import UpstreamReply
from dilithion_ws.gateway.upstream_errors import UpstreamError, UpstreamErrorKind
from dilithion_ws.util.repeating_thread import Pause

from ..support import Clock

BLOCK = {"hash": "00", "height": 0, "time": 1, "nTx": 1, "tx": ["t"]}
RESULTS: dict[str, Any] = {
    "getblockchaininfo": {"blocks": 0, "headers": 0, "bestblockhash": "00", "verificationprogress": 1.0},
    "getblockhash": "00",
    "getblock": BLOCK,
    "getrawmempool": [],
    "getpeerinfo": [],
    "getmininginfo": {},
}


class Node:
    """A node of the Bitcoin Core family with one block, that takes no time unless a test says so."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.seconds = 0.0
        self.failure: UpstreamError | None = None

    def post(self, body: bytes, headers: Any, timeout: float, path: str = "") -> UpstreamReply:
        self._clock.now += self.seconds
        if self.failure is not None:
            raise self.failure
        asked = json.loads(body)
        answers = [
            {"result": RESULTS.get(call["method"]), "error": None, "id": call["id"]}
            for call in (asked if isinstance(asked, list) else [asked])
        ]
        found = answers if isinstance(asked, list) else answers[0]
        return UpstreamReply(200, {}, json.dumps(found).encode())


class Setup:
    """A poller of a node, and the server to which it publishes, which is not started."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.node = Node(self.clock)
        self.server = WebSocketServer(RpcTable())
        self.server.topic(NODE_TOPIC, mode="latest", permission="READ_BLOCKCHAIN", schema=NodeState)
        client = NodeClient(self.node, None, self.clock, CircuitBreaker(self.clock))
        self.found: list[Any] = []
        config = GatewayConfig(poll_interval=1.0, poll_share=0.2)
        self.poller = PollerThread(client, self.server, config, self.found.append, self.clock)

    def state(self) -> str:
        entry = self.server.events.topic(NODE_TOPIC).log.newest()
        assert entry is not None
        return str(json.loads(entry.data)["kind"])


@pytest.fixture
def setup() -> Iterator[Setup]:
    setup = Setup()
    yield setup
    setup.poller.stop(5.0)


def test_a_poll_detects_the_dialect_and_publishes_the_state(setup: Setup) -> None:
    assert setup.poller.step(False) == Pause(0.0, 1.0)
    assert setup.found == [CORE]
    assert setup.state() == "up"
    assert setup.poller.polls == 1


def test_after_a_hint_the_next_poll_follows_soon(setup: Setup) -> None:
    assert setup.poller.step(True) == Pause(0.0, 0.1)
    assert setup.poller.step(False) == Pause(0.0, 1.0)


def test_polls_keep_to_their_share_of_the_time(setup: Setup) -> None:
    setup.poller.step(False)
    setup.node.seconds = 0.5
    before = setup.clock.now
    pause = setup.poller.step(False)
    assert pause.minimum == pytest.approx(4 * (setup.clock.now - before))


def test_a_node_that_is_down_is_polled_again(setup: Setup) -> None:
    setup.poller.step(False)
    setup.node.failure = UpstreamError(UpstreamErrorKind.DOWN, "refused")
    assert setup.poller.step(False).maximum <= 1.0
    assert setup.state() == "down"


@pytest.mark.parametrize("kind", [UpstreamErrorKind.LIMITED, UpstreamErrorKind.BUSY])
def test_a_node_that_limits_the_rate_or_has_much_to_do_is_not_down(setup: Setup, kind: UpstreamErrorKind) -> None:
    setup.poller.step(False)
    setup.node.failure = UpstreamError(kind, retry=7.0)
    pause = setup.poller.step(False)
    assert pause == Pause(7.0, 7.0) or kind is UpstreamErrorKind.BUSY
    assert setup.state() == "up"


def test_this_gateway_leads_if_there_is_no_other(setup: Setup) -> None:
    assert setup.poller.is_leading()


def test_each_change_of_the_node_is_one_line_and_shows_in_health(
    setup: Setup, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "dilithion_ws.gateway"):
        for failure in (None, None, UpstreamErrorKind.DOWN, UpstreamErrorKind.DOWN, None):
            setup.node.failure = None if failure is None else UpstreamError(failure)
            setup.poller.step(False)
            expected = {"good": True, "state": "up", "blocks": 0}
            if failure is not None:
                expected = {"good": False, "state": "down", "reason": "the node can't be reached"}
            assert setup.server.health.all()["node"] == expected
    lines = [record.getMessage() for record in caplog.records if record.getMessage().startswith("the node is")]
    assert lines == [
        "the node is up, at height 0",
        "the node is down: the node can't be reached",
        "the node is up, at height 0",
    ]


def test_a_reason_of_any_length_shows_in_health(setup: Setup) -> None:
    setup.node.failure = UpstreamError(UpstreamErrorKind.UNREADABLE, "x" * 10_000)
    setup.poller.step(False)
    report = setup.server.health.all()["node"]
    assert (report["good"], len(report["reason"])) == (False, 300)

"""Calls that wait in the gateway: while the node limits their rate, and for the template of the next block."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from dilithion_ws import RpcError
from dilithion_ws.client import Client
from dilithion_ws.gateway.dialects.dilithion import DILITHION
from dilithion_ws.gateway.limited_calls import LimitedCall, LimitedCalls
from dilithion_ws.gateway.node_client import CircuitBreaker, NodeClient
from dilithion_ws.gateway.response_parser import UpstreamReply
from dilithion_ws.gateway.shared_reads import SharedReads
from dilithion_ws.gateway.template_waiters import without_longpollid
from dilithion_ws.gateway.upstream_errors import UpstreamError, UpstreamErrorKind
from dilithion_ws.util.clock import Deadline

from ..support import Clock, RawClient, wait_for
from ..support.gateways import GatewayFactory, put, ready
from ..support.litecoin import Litecoin, needs_litecoind
from ..support.standin import StandIn


class Limiting:
    """A node that refuses some requests for their rate. Records the calls of each request."""

    def __init__(self) -> None:
        self.refusals = 0
        self.accepted: int | None = None  # requests, before all others are refused
        self.requests: list[list[str]] = []

    def post(self, body: bytes, headers: Any, timeout: float, path: str = "") -> UpstreamReply:
        asked = json.loads(body)
        self.requests.append([call["method"] for call in asked])
        if self.accepted is not None:
            self.accepted -= 1
        if self.refusals or (self.accepted is not None and self.accepted < 0):
            self.refusals = max(0, self.refusals - 1)
            return UpstreamReply(200, {}, b'{"error":"Rate limit exceeded. Please slow down your requests."}')
        answers = [{"jsonrpc": "2.0", "result": call["method"], "id": call["id"]} for call in asked]
        return UpstreamReply(200, {}, json.dumps(answers).encode())


class Setup:
    def __init__(self, most: int = 200) -> None:
        self.clock = Clock()
        self.poster = Limiting()
        self.node = NodeClient(self.poster, DILITHION, self.clock, CircuitBreaker(self.clock))
        self.calls = LimitedCalls(SharedReads(self.clock, 0, 0), self.clock, most)

    def call(self, method: str, seconds: float = 30.0, wallet: str | None = None, params: bytes = b"") -> LimitedCall:
        return LimitedCall(self.node, method, params, wallet, Deadline(self.clock, seconds))


def test_calls_that_wait_leave_as_one_batch_once_the_node_takes_it() -> None:
    setup = Setup()
    futures = [setup.calls.enter(setup.call(f"m{number}"), 1.0) for number in range(5)]
    assert setup.calls.is_waiting
    assert setup.calls.step().minimum == pytest.approx(1.0)
    assert setup.poster.requests == []
    setup.clock.now += 1
    setup.poster.refusals = 1
    setup.calls.step()
    assert len(setup.calls) == 5, "none is lost"
    setup.clock.now += 2
    setup.calls.step()
    assert [json.loads(bytes(future.result(0))) for future in futures] == [f"m{number}" for number in range(5)]
    assert setup.poster.requests == [[f"m{number}" for number in range(5)]] * 2
    setup.clock.now += 2
    assert not setup.calls.is_waiting


def test_a_batch_has_one_wallet_and_no_call_whose_client_has_gone() -> None:
    setup = Setup()
    first = setup.calls.enter(setup.call("a"), 0.5)
    setup.calls.enter(setup.call("late", 0.6))
    setup.calls.enter(setup.call("gone")).cancel()
    other = setup.calls.enter(setup.call("b", wallet="w"))
    setup.clock.now += 1
    setup.calls.step()
    assert setup.poster.requests == [["a"]]
    assert first.done()
    setup.clock.now += 2
    setup.calls.step()
    assert setup.poster.requests == [["a"], ["b"]]
    assert other.done()


def test_no_call_of_a_batch_in_several_requests_is_made_twice() -> None:
    setup = Setup()
    large = b'["%b"]' % (b"x" * 900_000)  # two of them fill a request
    futures = [setup.calls.enter(setup.call(f"m{number}", params=large), 1.0) for number in range(4)]
    setup.clock.now += 1
    setup.poster.accepted = 1
    setup.calls.step()
    assert setup.poster.requests == [["m0", "m1"], ["m2", "m3"]]
    assert [future.done() for future in futures] == [True, True, False, False]
    setup.poster.accepted = None
    setup.clock.now += 2
    setup.calls.step()
    assert setup.poster.requests[2:] == [["m2", "m3"]]
    assert all(future.done() for future in futures)
    refused = [setup.calls.enter(setup.call(f"n{number}", params=large), 2.0) for number in range(4)]
    setup.clock.now += 2
    setup.poster.refusals = 1
    setup.calls.step()
    assert setup.poster.requests[3:] == [["n0", "n1"]], "the node wants no further request"
    assert not any(future.done() for future in refused)


def test_a_call_without_a_place_or_without_time_is_refused_at_once() -> None:
    setup = Setup(most=1)
    with pytest.raises(UpstreamError) as caught:
        setup.calls.enter(setup.call("m", 1.0), 5.0)
    assert caught.value.data["retry_after_ms"] == 5000
    waiting = setup.calls.enter(setup.call("m"))
    with pytest.raises(UpstreamError, match="rpcgatewaylimitedcalls"):
        setup.calls.enter(setup.call("m"))
    setup.calls.stop(1.0)
    with pytest.raises(UpstreamError) as caught:
        waiting.result(0)
    assert caught.value.kind is UpstreamErrorKind.LIMITED


def test_clients_of_a_node_that_limits_are_answered_together(standin: StandIn, gateways: GatewayFactory) -> None:
    gateway = ready(gateways(standin.url, poll_interval=30.0))
    with Client(gateway.server.url) as client, ThreadPoolExecutor(8) as pool:
        standin.tokens = 0
        found = [pool.submit(client.call, "getblockhash", 0) for _ in range(8)]
        wait_for(lambda: len(gateway._waiting.limited[gateway.node]) == 8)
        before = len(standin.requests)
        standin.tokens = 2
        assert len({future.result(20)["blockhash"] for future in found}) == 1
        assert len(standin.requests) - before <= 2


# Templates


@pytest.mark.parametrize(
    ("params", "plain", "longpollid"),
    [
        (b'[{"rules":["segwit"],"longpollid":"00"}]', b'[{"rules":["segwit"]}]', "00"),
        (b'[{"longpoll\\u0069d":"00"},5]', b"[{},5]", "00"),
        (b'{"template_request":{"longpollid":"aa"}}', b'{"template_request":{}}', "aa"),
        (b'{"args":[{"longpollid":"aa"},1],"x":2}', b'{"args":[{},1],"x":2}', "aa"),
        (b'[{"longpollid":5}]', b"[{}]", ""),
        (b'[{"longpollid":1e999}]', b"[{}]", ""),
        (b'[{"longpollid":%b}]' % (b"9" * 5000), b"[{}]", ""),
        (b'[{"longpollid":null}]', b"[{}]", None),
        (b'[{"mode":"template","longpollid":"aa"}]', b'[{"mode":"template"}]', "aa"),
        (b'[{"mode":"templat\\u0065","longpollid":"aa"}]', b'[{"mode":"templat\\u0065"}]', "aa"),
        (b'[{"mode":null,"longpollid":"aa"}]', b'[{"mode":null}]', "aa"),
        (b'[{"mode":"proposal","longpollid":"aa"}]', b'[{"mode":"proposal"}]', None),
        (b'[{"mode":5,"longpollid":"aa"}]', b'[{"mode":5}]', None),
        (b'{"args":[],"template_request":{"longpollid":"x"}}', b'{"args":[],"template_request":{}}', "x"),
        (b'{"template_request":{"longpollid":"x"},"template_request":{}}', b'{"template_request":{}}', None),
        (b'[{"longpollid":"%b"}]' % (b"ab" * 40), b"[{}]", "ab" * 32),
        (b'[{"rules":[]}]', b'[{"rules":[]}]', None),
        (b'["longpollid"]', b'["longpollid"]', None),
        (b"5", b"5", None),
        (b"", b"", None),
    ],
)
def test_the_longpollid_is_taken_out_of_the_params(params: bytes, plain: bytes, longpollid: str | None) -> None:
    assert without_longpollid(params) == (plain, longpollid)


@needs_litecoind
@pytest.mark.timeout(100)
def test_miners_wait_in_the_gateway_and_a_node_with_one_thread_answers_others(
    litecoin: Litecoin, gateways: GatewayFactory
) -> None:
    litecoin.stop()
    litecoin.start("-rpcthreads=1", "-rpcworkqueue=1")
    litecoin.call("createwallet", "w")
    address = litecoin.call("getnewaddress")
    litecoin.call("generatetoaddress", 2, address)
    litecoin.call("setmocktime", litecoin.call("getblockheader", litecoin.call("getbestblockhash"))["time"] + 60)
    gateway = put(litecoin, gateways, wait=False)
    asked = {"rules": ["segwit", "mweb"]}
    template = _template(gateway, asked)
    if template is None:
        template = {"longpollid": litecoin.call("getbestblockhash") + "1"}  # regtest without peers makes none
    miners = [RawClient(gateway.server.port) for _ in range(8)]
    for miner in miners:
        miner.request("getblocktemplate", [{**asked, "longpollid": template["longpollid"]}])
    wait_for(lambda: gateway.waiting_calls == 8)
    with Client(gateway.server.url) as client:
        assert client.call("getblockcount") == 2
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(client.call, "waitfornewblock", 30000)
            wait_for(lambda: gateway.waiting_calls == 9)
            client.call("generatetoaddress", 1, address)
            assert waiting.result(30)["height"] == 3
    for miner in miners:
        answer = miner.answer()
        assert "longpollid" in answer.get("result", {}) or answer["error"]["code"] in (-9, -10)
        miner.close()


def test_miners_who_wait_are_answered_when_the_gateway_stops(standin: StandIn, gateways: GatewayFactory) -> None:
    gateway = ready(gateways(standin.url))
    miners = [RawClient(gateway.server.port) for _ in range(30)]
    for miner in miners:
        miner.request("getblocktemplate", [{"longpollid": standin.chain[-1]["hash"] + "1"}])
    wait_for(lambda: gateway.waiting_calls == 30)
    begin = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        stopping = pool.submit(gateway.stop, 20.0)
        for miner in miners:
            assert "error" in miner.answer()
            miner.close()
        assert stopping.result(20)
    assert time.monotonic() - begin < 10.0


@needs_litecoind
@pytest.mark.timeout(100)
def test_no_call_waits_in_a_node_with_one_thread(
    litecoin: Litecoin, gateways: GatewayFactory, caplog: pytest.LogCaptureFixture
) -> None:
    litecoin.stop()
    litecoin.start("-rpcthreads=1", "-rpcworkqueue=1")
    gateway = put(litecoin, gateways)
    wait_for(lambda: "it is polled instead" in caplog.text, 20)
    with Client(gateway.server.url) as client:
        begin = time.monotonic()
        for number in range(5):
            client.call("getnetworkhashps", number + 1)
        assert time.monotonic() - begin < 2.0


def _template(gateway: Any, asked: dict[str, Any]) -> dict[str, Any] | None:
    with Client(gateway.server.url) as client:
        try:
            found: dict[str, Any] = client.call("getblocktemplate", asked)
            return found
        except RpcError:
            return None

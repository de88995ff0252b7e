"""Faults that the gateway once had, each as it was met."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dilithion_ws import ConfigError, NotLeadingError, RpcError
from dilithion_ws.client import Client, EventsLostError
from dilithion_ws.events.topic import Availability
from dilithion_ws.gateway.dialects.bitcoin_core import CORE
from dilithion_ws.gateway.dialects.detection import detect_dialect
from dilithion_ws.gateway.dialects.dilithion import DILITHION
from dilithion_ws.gateway.gateway_config import GatewayConfig
from dilithion_ws.gateway.long_poll import LongPoll
from dilithion_ws.gateway.node_client import Call, CircuitBreaker, NodeClient
from dilithion_ws.gateway.node_poller import NodePoller, Published
from dilithion_ws.gateway.node_queries import NodeQueries
from dilithion_ws.gateway.node_view import NodeView
from dilithion_ws.gateway.response_parser import UpstreamReply, read_one
from dilithion_ws.gateway.upstream_errors import UpstreamError, UpstreamErrorKind
from dilithion_ws.util.repeating_thread import Pause

from ..support import TEST_TIMEOUT, Clock, RawClient, RedisServer, needs_redis, wait_for
from ..support.gateways import GatewayFactory, put, ready, take, transaction
from ..support.litecoin import Litecoin, needs_litecoind
from ..support.standin import StandIn

# Clients that mean harm


def test_a_client_s_text_in_a_message_is_no_word_of_the_node(standin: StandIn, gateways: GatewayFactory) -> None:
    gateway = ready(gateways(standin.url))
    with Client(gateway.server.url) as one, Client(gateway.server.url) as other:
        for text in ("Too many failed", "Unauthorized", "Rate limit"):
            with pytest.raises(RpcError):
                one.call("getblock", f'","k":1}},"error":"{text}","x":{{"y":"')
            assert other.call("getblockcount") == 0
        assert other.call("getnodestate")["kind"] == "up"


NUMBERS = [b"0e-400000000", b'"1_0"', b'" 2 "', '"\u0661"'.encode(), b"1e9999999", b'"x"', b"1" + b"0" * 50]


@pytest.mark.parametrize("amount", NUMBERS)
def test_an_amount_that_is_no_number_or_no_end_of_one_is_refused(amount: bytes) -> None:
    with pytest.raises(RpcError, match="amount") as caught:
        DILITHION.params("estimatesendfee", b'["a",%b]' % amount)
    assert caught.value.code == -32602


def test_nothing_is_still_an_amount() -> None:
    assert DILITHION.params("sendtoaddress", b'["a",0e-99]') == b'["a",0]'


COSTLY = ["getblocktemplate", "verifychain", "scantxoutset", "gettxoutsetinfo", "getzmqnotifications"]


@pytest.mark.parametrize("method", COSTLY)
def test_readers_can_t_keep_a_node_busy(method: str) -> None:
    assert not (CORE.permissions[method] or "").startswith("READ_")


def test_waits_in_batches_leave_nothing_behind(standin: StandIn, gateways: GatewayFactory) -> None:
    gateway = ready(gateways(standin.url))
    with Client(gateway.server.url) as client:
        for _ in range(20):
            results = client.batch([("waitfornewblock", [])] * 100)
            assert all("send it by itself" in str(result) for result in results)
        wait_for(lambda: not gateway.waiting_calls)


def test_a_client_that_waits_in_a_loop_does_not_hold_up_the_stop(standin: StandIn, gateways: GatewayFactory) -> None:
    gateway = ready(gateways(standin.url))
    client = RawClient(gateway.server.port)

    def loop() -> None:
        try:
            while True:
                client.call("waitfornewblock", 20_000)
        except Exception:
            client.close()  # the server has closed the connection

    thread = threading.Thread(target=loop)
    thread.start()
    wait_for(lambda: gateway.waiting_calls)
    assert gateway.stop(10 * TEST_TIMEOUT), "well before the time for it is over"
    thread.join(10)


# Calls that wait for one another


@needs_litecoind
def test_with_one_connection_clients_and_the_long_poll_get_by(litecoin: Litecoin, gateways: GatewayFactory) -> None:
    gateway = put(litecoin, gateways, upstream_connections=1)

    def waited() -> int:
        """The microseconds for which the node has been executing the gateway's long poll."""
        commands = litecoin.call("getrpcinfo")["active_commands"]
        return sum(command["duration"] for command in commands if command["method"] == "waitfornewblock")

    before = wait_for(waited)
    with Client(gateway.server.url) as client:
        for _ in range(20):
            assert client.call("getblockcount") == 0
    assert waited() > before, "all were answered while it went on"


@needs_litecoind
def test_no_call_waits_in_the_node_if_that_is_not_wanted(litecoin: Litecoin, gateways: GatewayFactory) -> None:
    gateway = put(litecoin, gateways, wait=False)
    with Client(gateway.server.url) as client:
        blocks = client.subscribe("blocks")
        litecoin.call("createwallet", "w")
        for _ in range(3):
            litecoin.call("generatetoaddress", 1, litecoin.call("getnewaddress"))
            take(blocks, 1)
            commands = litecoin.call("getrpcinfo")["active_commands"]
            assert "waitfornewblock" not in {command["method"] for command in commands}


def test_slow_calls_of_clients_do_not_delay_polls(standin: StandIn, gateways: GatewayFactory) -> None:
    """The stand-in serves one call at a time; what counts here is that a look is sent while the calls wait."""
    gateway = ready(gateways(standin.url, upstream_connections=2))
    threads = []
    with Client(gateway.server.url) as client:
        for _ in range(6):
            threads.append(threading.Thread(target=lambda: _ignore(lambda: client.call("slow"))))
            threads[-1].start()
        wait_for(lambda: standin.handling.locked())
        requests = len(standin.requests)
        wait_for(lambda: any(b"getrawmempool" in request for request in standin.requests[requests:]))
        standin.held.set()
        for thread in threads:
            thread.join(10)


def _ignore(call: Callable[[], Any]) -> None:
    try:
        call()
    except RpcError:
        pass


# What the node says


class Fake:
    """A poster with given replies."""

    def __init__(self, *replies: UpstreamReply | Exception) -> None:
        self.replies = list(replies)
        self.count = 0

    def post(self, body: bytes, headers: Any, timeout: float, path: str = "") -> UpstreamReply:
        self.count += 1
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if isinstance(reply, Exception):
            raise reply
        return reply


def node(*replies: UpstreamReply | Exception, clock: Clock | None = None) -> NodeClient:
    clock = clock or Clock()
    return NodeClient(Fake(*replies), CORE, clock, CircuitBreaker(clock))


@pytest.mark.parametrize("status", [502, 504])
def test_what_a_proxy_did_not_get_through_may_have_been_carried_out(status: int) -> None:
    one = node(UpstreamReply(status, {}, b"<html>secret page</html>"))
    with pytest.raises(RpcError) as caught:
        one.call("sendtoaddress", b"[]", 1.0)
    assert caught.value.code == -32002
    assert "retry_after_ms" not in caught.value.data
    with pytest.raises(RpcError) as caught:
        one.call("getblock", b"[]", 1.0)
    assert caught.value.code == -32009
    assert "secret" not in str(caught.value)
    first, second = one.batch([("sendtoaddress", b"[]"), ("getblock", b"[]")], 1.0)
    assert (first.code, second.code) == (-32002, -32009)


def test_a_read_that_timed_out_may_be_repeated_and_a_write_may_have_happened() -> None:
    one = node(UpstreamError(UpstreamErrorKind.SLOW))
    with pytest.raises(RpcError, match="may still execute the call"):
        one.call("sendtoaddress", b"[]", 1.0)
    with pytest.raises(RpcError, match="only reads, and may be repeated") as caught:
        one.call("getblock", b"[]", 1.0)
    assert caught.value.code == -32002
    assert caught.value.data["retry_after_ms"]


def test_methods_that_take_long_have_the_time_for_it(gateways: GatewayFactory) -> None:
    for dialect, method in (("dilithion", "rescanwallet"), ("core", "rescanblockchain")):
        rpc = gateways("http://127.0.0.1:9", dialect=dialect).rpc
        seconds = [one.timeout for one in (rpc.get(method), rpc.get("waitfornewblock"), rpc.get("getblock")) if one]
        assert seconds == [300.0, 301.0, None]


def test_refused_credentials_are_tried_less_and_less_often() -> None:
    clock = Clock()
    one = node(UpstreamReply(401, {}, b""), clock=clock)
    tries = []
    for _ in range(4000):
        before = one._poster.count  # type: ignore[attr-defined]
        with pytest.raises(UpstreamError) as caught:
            one.call("getblockcount", b"", 1.0)
        assert caught.value.kind is UpstreamErrorKind.REFUSED
        if one._poster.count > before:  # type: ignore[attr-defined]
            tries.append(clock.now)
        clock.now += 1
    pauses = [after - before for before, after in itertools.pairwise(tries)]
    assert pauses == [15, 30, 60, 120, 240, 480, 900, 900, 900]


def test_a_rate_limit_is_no_end_of_the_node(standin: StandIn, gateways: GatewayFactory) -> None:
    gateway = ready(gateways(standin.url))
    with Client(gateway.server.url) as client:
        standin.tokens = 0
        looks = gateway.poller.polls
        wait_for(lambda: gateway.poller.schedule.slowdown > 1, 10)
        assert gateway.poller.polls > looks
        assert client.call("getnodestate")["kind"] == "up"


def test_a_limit_that_is_over_at_once_still_says_when() -> None:
    error = read_one(UpstreamReply(429, {"Retry-After": "0"}, b""))
    assert error.data["retry_after_ms"] > 0


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (502, b'{"error":"bad gateway"}'),
        (404, b'{"error":"no such route"}'),
        (200, b'{"error":{"code":1}}'),
        (200, b"[]"),
    ],
)
def test_the_answer_of_a_proxy_does_not_show_the_dialect(status: int, body: bytes) -> None:
    assert detect_dialect(UpstreamReply(status, {}, body)) is None


def test_a_failure_of_tls_is_reported_without_an_address(standin: StandIn, gateways: GatewayFactory) -> None:
    plain = ready(gateways(standin.url)).server  # answers at once that it does not speak TLS
    gateway = gateways(f"https://127.0.0.1:{plain.port}")
    with Client(gateway.server.url) as client:
        state = wait_for(lambda: client.call("getnodestate"))
        wait_for(lambda: "TLS failed" in client.call("getnodestate")["reason"])
        assert state["kind"] == "down"
        assert "127.0.0.1" not in client.call("getnodestate")["reason"]


# Watching


def long_poll(*replies: UpstreamReply | Exception) -> tuple[LongPoll, Fake, list[int]]:
    poster, hints, clock = Fake(*replies), [], Clock()
    node = NodeClient(poster, CORE, clock, CircuitBreaker(clock))
    poll = LongPoll(node, lambda: True, lambda: hints.append(1), clock)
    poll._is_tried = True
    return poll, poster, hints


GOOD = UpstreamReply(200, {}, b'{"result":{"height":1,"hash":"00"},"error":null,"id":1}')


def test_a_node_that_starts_is_asked_again_later() -> None:
    warming = UpstreamReply(500, {}, b'{"result":null,"error":{"code":-28,"message":"Loading"},"id":1}')
    poll, _, hints = long_poll(warming, GOOD)
    assert poll.step() == Pause(1.0, 1.0)
    assert hints == []
    poll.step()
    assert hints == [1]


def test_a_node_that_does_not_wait_is_not_called_in_a_loop() -> None:
    poll, _, hints = long_poll(GOOD)
    assert [poll.step() for _ in range(3)] == [Pause(0.05, 0.05)] * 3
    assert hints == [1, 1, 1]


def test_a_node_without_the_method_is_polled() -> None:
    missing = UpstreamReply(404, {}, b'{"result":null,"error":{"code":-32601,"message":"Method not found"},"id":1}')
    poll, _, hints = long_poll(missing)
    assert poll.step() is None
    assert hints == []


class Scripted:
    """A node of few words, for one watch."""

    def __init__(self) -> None:
        self.tip = 0
        self.blocks: dict[str, dict[str, Any]] = {}
        self.error: RpcError | None = None
        self.published: list[tuple[str, Any]] = []
        self.new_epochs: list[str] = []
        self.begun: list[str] = []
        for _ in range(4):
            self.mine()

    def mine(self, branch: str = "") -> None:
        height = len(self.blocks)
        previous = f"{height - 1}" if height else "none"
        self.blocks[f"{height}"] = {"hash": f"{height}", "height": height, "time": 1, "previousblockhash": previous}
        self.tip = height

    def batch(self, calls: Sequence[Call], timeout: float) -> list[Any]:
        return [self.answer(*call) for call in calls]

    def publish(self, topic: str, event: Any) -> None:
        self.published.append((topic, event))

    def start_new_epoch(self, topic: str) -> None:
        self.new_epochs.append(topic)

    def start_topic(self, topic: str) -> None:
        self.begun.append(topic)

    def answer(self, method: str, params: bytes) -> Any:
        if method == "getblock" and self.error is not None:
            return self.error
        values = json.loads(params or b"[]")
        answers: dict[str, Callable[[], Any]] = {
            "getrawmempool": list,
            "getpeerinfo": list,
            "getblockchaininfo": lambda: {"blocks": self.tip, "bestblockhash": f"{self.tip}"},
            "getblockhash": lambda: f"{values[0]}",
            "getblock": lambda: self.blocks[values[0]],
        }
        return msgspec.Raw(json.dumps(answers[method]()).encode())

    def poller(self) -> NodePoller:
        return NodePoller(self, NodeQueries(CORE), self, GatewayConfig(catch_up=10), Published(None, NodeView()))


@pytest.mark.parametrize(
    "error",
    [
        RpcError(-28, "Loading block index"),
        UpstreamError(UpstreamErrorKind.BROKEN_OFF),
        RpcError(-32603, "out of memory"),
    ],
    ids=str,
)
def test_an_error_between_two_requests_of_a_poll_loses_no_block(error: RpcError) -> None:
    scripted = Scripted()
    poller = scripted.poller()
    poller.poll()
    scripted.mine()
    scripted.error = error
    with pytest.raises(RpcError):
        poller.poll()
    assert scripted.new_epochs == []
    scripted.error = None
    poller.poll()
    assert [event["height"] for _, event in scripted.published] == [3, 4]


def test_a_gap_is_reported_once_however_often_the_node_disconnects() -> None:
    scripted = Scripted()
    poller = scripted.poller()
    poller.poll()
    for _ in range(20):
        scripted.mine()
    scripted.error = UpstreamError(UpstreamErrorKind.BROKEN_OFF)
    for _ in range(3):
        with pytest.raises(UpstreamError):
            poller.poll()
    assert scripted.new_epochs == []
    scripted.error = None
    poller.poll()
    assert scripted.new_epochs == ["blocks"]
    assert [event["height"] for _, event in scripted.published] == [3, 23]


def test_a_mempool_that_is_tracked_again_starts_a_new_epoch(standin: StandIn, gateways: GatewayFactory) -> None:
    """A client that came while it was not tracked knows another mempool."""
    standin.mempool.update({f"t{n}": transaction() for n in range(5)})
    gateway = ready(gateways(standin.url, mempool=3))
    with Client(gateway.server.url) as client:
        mempool = client.subscribe("mempool")
        with standin.handling:
            for n in range(4):
                del standin.mempool[f"t{n}"]
        with pytest.raises(EventsLostError):
            mempool.get(10)
        standin.mempool["new"] = transaction()
        event = mempool.get(10)
        assert event is not None
        assert (event.data["txid"], event.data["sequence"]) == ("new", 1)


def test_blocks_of_a_new_epoch_of_the_store_are_not_missed(
    standin: StandIn, gateways: GatewayFactory, tmp_path: Path
) -> None:
    store = f"sqlite:{tmp_path / 'events.db'}"
    first = ready(gateways(standin.url, event_store=store))
    epoch = first.server.events.topic("blocks").log.position.epoch
    first.server.events.start_new_epoch("blocks")  # as a store does that had no room
    wait_for(lambda: first.server.events.topic("blocks").log.position.epoch != epoch)
    with Client(first.server.url) as client:
        place = client.subscribe("blocks").position
    assert place is not None
    first.stop()
    for _ in range(3):
        standin.mine()
    second = gateways(standin.url, event_store=store)
    wait_for(lambda: second.poller.polls > 1)
    with Client(second.server.url) as client:
        answer = client.call("subscribe", "blocks", None, {"epoch": place.epoch, "seq": place.seq})
        assert (answer["recovered"], answer["reason"]) == (False, "epoch")


def test_a_node_that_does_not_mine_loses_no_events_of_mining() -> None:
    scripted = Scripted()
    poller = scripted.poller()
    for _ in range(3):
        poller.poll()
    assert sorted(scripted.begun) == ["blocks", "mempool", "peers"]


# Terms


@needs_redis
def test_what_belongs_to_an_earlier_term_can_t_be_published(
    standin: StandIn, gateways: GatewayFactory, redis_server: RedisServer
) -> None:
    gateway = ready(gateways(standin.url, event_store=redis_server.url, leader_patience=0.5))
    hub, term = gateway.server.events, gateway.poller.leadership.term
    state = {"kind": "up", "blocks": 7}
    hub.publish("node", state, term)
    redis_server.kill()
    wait_for(lambda: gateway.poller.leadership.term == 0)
    with pytest.raises(NotLeadingError):
        hub.publish("node", state, term)
    redis_server.start()
    wait_for(lambda: gateway.poller.leadership.term not in (0, term))
    for call in (lambda: hub.publish("node", state, term), lambda: hub.start_new_epoch("node", term)):
        with pytest.raises(NotLeadingError):
            call()


@needs_redis
def test_a_state_that_changed_before_the_takeover_is_published_after_it(
    standin: StandIn, gateways: GatewayFactory, redis_server: RedisServer
) -> None:
    import redis

    shared = {"event_store": redis_server.url, "leader_patience": 0.5}
    before = ready(gateways(standin.url, **shared))
    before.stop()
    standin.stop()
    with redis.Redis.from_url(redis_server.url) as direct:
        key = before.poller.leadership.key  # type: ignore[union-attr]
        direct.set(key, "another")
        gateway = gateways(standin.url, **shared)
        wait_for(lambda: gateway.server.events.topic("node").availability is Availability.AVAILABLE)
        with Client(gateway.server.url) as client:
            assert client.call("getnodestate")["kind"] == "up"  # as far as anybody has told
            direct.delete(key)
            wait_for(lambda: client.call("getnodestate")["kind"] == "down")


# Settings


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"zmq": ("tcp://127.0.0.1",)}, "rpcgatewayzmq"),
        ({"upstream": "http://127.0.0.1:abc"}, "rpcgatewayupstream"),
        ({"upstream": "http://127.0.0.1:99999"}, "rpcgatewayupstream"),
        ({"upstream": "http://"}, "rpcgatewayupstream"),
    ],
)
def test_impossible_addresses_are_refused_at_once(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        GatewayConfig(**options)


def test_after_the_end_of_a_subscription_a_client_may_subscribe_again_at_once(
    standin: StandIn, gateways: GatewayFactory
) -> None:
    gateway = ready(gateways(standin.url))
    with RawClient(gateway.server.port) as client:
        client.call("subscribe", "peers")
        for _ in range(200):
            gateway.server.events.start_new_epoch("peers")
            assert "error" in json.loads(client.frame()[1])["params"]
            while "error" in (answer := client.call("subscribe", "peers")):
                assert answer["error"]["code"] == -32009  # it was quicker than our books
            assert answer["result"]["topic"] == "peers"
    wait_for(lambda: not gateway.server.events.topic("peers").in_use)

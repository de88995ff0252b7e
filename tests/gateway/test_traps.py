"""A Dilithion node's clients through the gateway: each of the node's traps, against a stand-in that has them all."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dilithion_ws import RpcError
from dilithion_ws.client import Client
from dilithion_ws.gateway.dialects.dilithion import DILITHION
from dilithion_ws.gateway.response_parser import UpstreamReply, read_batch, read_one
from dilithion_ws.gateway.upstream_errors import UpstreamError, UpstreamErrorKind

from ..support import TEST_TIMEOUT, RawClient, wait_for
from ..support.accounts import write_users
from ..support.gateways import GatewayFactory, ready
from ..support.standin import RECORDED, StandIn

REPLIES = {reply["name"]: reply for reply in RECORDED["replies"]}


def kind_of(outcome: object) -> UpstreamErrorKind | None:
    """Return why a node has not answered, or None if it has."""
    return outcome.kind if isinstance(outcome, UpstreamError) else None


def recorded(name: str) -> UpstreamReply:
    reply = REPLIES[name]
    headers = dict(line.split(": ", 1) for line in reply["headers"])
    return UpstreamReply(reply["status"], headers, reply["body"].encode())


@pytest.fixture
def client(standin: StandIn, gateways: GatewayFactory) -> Iterator[Client]:
    with Client(ready(gateways(standin.url)).server.url) as client:
        yield client


# What was recorded


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("rate/burst_global_11", UpstreamErrorKind.LIMITED),
        ("rate/batch_single_6", UpstreamErrorKind.LIMITED),
        ("rate/burst_walletpassphrase_6", UpstreamErrorKind.METHOD_LIMITED),
        ("auth/no_auth", UpstreamErrorKind.REFUSED),
        ("auth/batch_no_auth", UpstreamErrorKind.REFUSED),
        ("auth/bearer", UpstreamErrorKind.REFUSED),
        ("auth/good_while_locked_out", UpstreamErrorKind.LOCKED_OUT),
        ("auth/bad_password_6", UpstreamErrorKind.LOCKED_OUT),
        ("main/http_no_csrf", UpstreamErrorKind.UNREADABLE),
        ("main/http_put", UpstreamErrorKind.UNREADABLE),
        ("main/http_empty_body", UpstreamErrorKind.UNREADABLE),
    ],
)
def test_answers_that_are_not_json_rpc_become_errors_that_say_what_happened(name: str, kind: UpstreamErrorKind) -> None:
    for outcome in (read_one(recorded(name)), *read_batch(recorded(name), [1, 2])):
        assert kind_of(outcome) is kind


def test_the_node_s_own_errors_pass_unchanged() -> None:
    for name in ("main/rpc_unknown_method", "main/getblock_pos", "testnet/sendtoaddress_locked", "main/rpc_bad_json"):
        reply = recorded(name)
        outcome = read_one(reply)
        text = reply.body[reply.body.index(b'"error":') + 8 : reply.body.rindex(b',"id"')]
        assert bytes(outcome.to_object()) == text


def test_a_text_that_is_longer_than_was_said_is_no_json_any_more() -> None:
    reply = recorded("main/http_no_csrf")
    cut = UpstreamReply(403, {}, reply.body[:108])  # what an HTTP client that keeps to the length gets
    assert kind_of(read_one(cut)) is UpstreamErrorKind.FORBIDDEN


@pytest.mark.parametrize("name", ["main/rpc_id_quote", "main/rpc_id_string_digit"])
def test_ids_that_break_the_json_are_not_guessed_at(name: str) -> None:
    assert kind_of(read_one(recorded(name))) is UpstreamErrorKind.UNREADABLE


def test_a_message_with_quotes_in_it_is_read_all_the_same() -> None:
    body = b'{"jsonrpc":"2.0","error":{"code":-32603,"message":"no block "00" here"},"id":7}'
    outcome = read_one(UpstreamReply(200, {}, body))
    assert (outcome.code, outcome.message) == (-32603, 'no block "00" here')
    more = body[:-9] + b',"error_code":"RPC-X","recovery_steps":["a"]},"id":7}'
    found = read_one(UpstreamReply(200, {}, more)).to_object()
    assert json.loads(bytes(found))["recovery_steps"] == ["a"]
    good = b'{"jsonrpc":"2.0","result":[1,{"a":2}],"id":8}'
    outcomes = read_batch(UpstreamReply(200, {}, b"[%b,%b,%b]" % (good, body, good.replace(b":8", b":9"))), [7, 8, 9])
    assert [isinstance(outcome, RpcError) for outcome in outcomes] == [True, False, False]
    assert bytes(outcomes[1]) == b'[1,{"a":2}]'


@pytest.mark.parametrize(
    ("status", "body", "kind", "code"),
    [
        (503, b"Work queue depth exceeded", UpstreamErrorKind.BUSY, -32009),
        (500, b"Work queue depth exceeded", UpstreamErrorKind.BUSY, -32009),
        (503, b"", UpstreamErrorKind.BUSY, -32009),
        (401, b"", UpstreamErrorKind.REFUSED, -32009),
        (403, b"<html>", UpstreamErrorKind.FORBIDDEN, -32003),
        (429, b"", UpstreamErrorKind.LIMITED, -32005),
        (404, b"nothing here", UpstreamErrorKind.UNREADABLE, -32603),
        (200, b'{"result":1', UpstreamErrorKind.UNREADABLE, -32603),
        (200, b'{"result":"\xff","id":1}', UpstreamErrorKind.UNREADABLE, -32603),
    ],
)
def test_answers_of_other_nodes_that_are_no_json(status: int, body: bytes, kind: UpstreamErrorKind, code: int) -> None:
    outcome = read_one(UpstreamReply(status, {}, body))
    assert (kind_of(outcome), outcome.code) == (kind, code)
    assert ("retry_after_ms" in outcome.data) is (code in (-32009, -32005))


def test_what_core_says_of_itself_while_it_starts_passes() -> None:
    body = b'{"result":null,"error":{"code":-28,"message":"Loading block index..."},"id":1}'
    assert read_one(UpstreamReply(500, {}, body)).code == -28


@given(st.binary(max_size=200), st.sampled_from([200, 401, 403, 404, 429, 500, 503]))
def test_whatever_comes_is_an_outcome(body: bytes, status: int) -> None:
    outcome = read_one(UpstreamReply(status, {"Retry-After": "x"}, body))
    assert isinstance(outcome, (RpcError, msgspec.Raw))
    assert len(read_batch(UpstreamReply(status, {}, body), [1, 2, 3])) == 3


# Params


@pytest.mark.parametrize(
    ("method", "given", "put"),
    [
        ("getblockhash", b"[5]", b'{"height":5}'),
        ("getblockhash", b'{"height":5}', b'{"height":5}'),
        ("getblock", b'["00",2]', b'{"hash":"00","verbosity":2}'),
        ("getblock", b'["00",null]', b'{"hash":"00"}'),
        ("getblockhash", b"[1,2]", b'{"height":1}'),
        ("getrawtransaction", b'["00",1]', b'{"txid":"00","verbosity":1}'),
        ("getrawtransaction", b'["00",true]', b'{"txid":"00","verbose":true}'),
        ("getblockcount", b"", b"[]"),
        ("getblockcount", b"{}", b"[]"),
        ("gettxout", b'["aa",0]', b'{"txid":"aa","z":{"n":0}}'),
        ("gettxout", b'{"n":1,"txid":"aa"}', b'{"txid":"aa","z":{"n":1}}'),
        ("setminingaddress", b'{"address":"D1"}', b'["D1"]'),
        ("setminingaddress", b'["D1"]', b'["D1"]'),
        ("setban", b'["1.2.3.4","add",60]', b'["1.2.3.4","add",60]'),
        ("sendtoaddress", b'{"amount":0.00001,"address":"D1"}', b'["D1",0.00001]'),
        ("sendtoaddress", b'["D1",1e-5]', b'["D1",0.00001]'),
        ("sendtoaddress", b'["D1","0.5"]', b'["D1",0.5]'),
        ("sendtoaddress", b'["D1",0.29]', b'["D1",0.290000005]'),
        ("sendtoaddress", b'["D1",1,"D2"]', b'{"address":"D1","amount":1,"from_address":"D2"}'),
        (
            "createhtlc",
            b'[0.29,"D1","h",9]',
            b'{"amount":0.290000005,"recipient_address":"D1","hash_lock":"h","timeout_blocks":9}',
        ),
        ("nosuch", b"[1.50, 18446744073709551617]", b"[1.50, 18446744073709551617]"),
    ],
    ids=str,
)
def test_params_are_put_as_the_node_understands_them(method: str, given: bytes, put: bytes) -> None:
    assert DILITHION.params(method, given) == put


@pytest.mark.parametrize(
    ("method", "given", "text"),
    [
        ("sendtoaddress", b'{"address":"D1","amount":0.00005,"from_address":"D2"}', "misread an amount below 0.0001"),
        ("createhtlc", b'{"amount":1e-5}', "misread an amount"),
        ("sendtoaddress", b'["D1",0.123456789]', "8 decimals at most.* round"),
        ("sendtoaddress", b'["D1",1e300]', "out of range"),
        ("getblockcount", b"[" * 9 + b"]" * 9, "nested 9 levels deep"),
    ],
)
def test_what_the_node_would_misunderstand_is_refused(method: str, given: bytes, text: str) -> None:
    with pytest.raises(RpcError, match=text) as caught:
        DILITHION.params(method, given)
    assert caught.value.code == -32602


@settings(max_examples=500)
@given(st.integers(1, 21_000_000 * 10**8), st.booleans())
def test_every_amount_arrives_to_the_ion(ions: int, exponent: bool) -> None:
    amount = Decimal(ions) / 10**8
    text = f"{amount:e}" if exponent else f"{amount:f}"
    put = json.loads(DILITHION.params("sendtoaddress", b'["D1",%b]' % text.encode()))
    assert int(float(put[1]) * 1e8) == ions


# Through the gateway


def test_calls_and_results_pass(client: Client, standin: StandIn) -> None:
    assert client.call("getblockcount") == 0
    assert client.call("getblockhash", 0) == {"blockhash": standin.chain[0]["hash"]}
    assert client.call("getbalance") == json.loads(RECORDED["results"]["getbalance"])
    for method, text in RECORDED["results"].items():
        if not hasattr(standin, f"_{method}") and method not in ("stop",):
            arguments = (
                ["x"] if method in ("dumpprivkey", "walletpassphrase", "decoderawtransaction", "addnode") else []
            )
            arguments = ["x"] if method == "gettransaction" else arguments
            assert client.call(method, *arguments) == json.loads(text), method


def test_results_pass_to_the_digit(standin: StandIn, gateways: GatewayFactory) -> None:
    gateway = ready(gateways(standin.url))
    RECORDED["results"]["digits"] = text = '{"a": 0.10000000, "b":18446744073709551617,"c":1.0E+2}'
    try:
        with RawClient(gateway.server.port) as raw:
            raw.text('{"method":"digits","id":"12"}')
            assert raw.frame()[1] == b'{"jsonrpc":"2.0","result":%b,"id":"12"}' % text.encode()
    finally:
        del RECORDED["results"]["digits"]


@pytest.mark.parametrize("id", ['"12"', '"1abc"', "18446744073709551615", "1.5", '"a\\"b"', '"-x"'])
def test_ids_come_back_as_they_were(id: str, standin: StandIn, gateways: GatewayFactory) -> None:
    with RawClient(ready(gateways(standin.url)).server.port) as raw:
        raw.text(f'{{"method":"getblockcount","id":{id}}}')
        assert raw.frame()[1] == b'{"jsonrpc":"2.0","result":0,"id":%b}' % id.encode()


def test_the_header_is_spelled_as_the_node_knows_it(client: Client, standin: StandIn) -> None:
    client.call("getblockcount")
    assert all(b"\r\nX-Dilithion-RPC: 1\r\n" in request for request in standin.requests)


def test_amounts_arrive_to_the_ion(client: Client) -> None:
    for amount, ions in ((0.29, 29_000_000), (1e-05, 1000), (5e-05, 5000), (1.1, 110_000_000)):
        assert client.call("estimatesendfee", address="D1", amount=amount) == {"ions": ions}
        assert client.call("sendtoaddress", "D1", amount) == {"ions": ions}
    assert client.call("createhtlc", amount=0.29, recipient_address="D1") == {"ions": 29_000_000}


def test_positional_params_and_odd_ones_are_understood(client: Client) -> None:
    assert client.call("gettxout", "aa", 3) == {"txid": "aa", "n": 3}
    assert client.call("gettxout", txid="aa", n=3) == {"txid": "aa", "n": 3}
    assert client.call("setminingaddress", address="D1")["address"] == "D1"


def test_the_names_of_params_are_described(client: Client) -> None:
    described = {method["name"]: method for method in client.call("rpc.discover")["methods"]}
    assert [param["name"] for param in described["getblock"]["params"]] == ["hash", "verbosity"]


def test_an_error_with_quotes_in_it_reaches_the_client(client: Client) -> None:
    with pytest.raises(RpcError, match='no block "00" here') as caught:
        client.call("wrong")
    assert caught.value.code == -32603


def test_a_batch_goes_to_the_node_whole(client: Client, standin: StandIn) -> None:
    wait_for(lambda: standin.requests)
    results = client.batch(
        [("getblockcount", []), ("wrong", []), ("getblockhash", [0]), ("getblock", [[[[[[[[[1]]]]]]]]])]
    )
    assert results[0] == 0
    assert 'no block "00" here' in str(results[1])
    assert results[2]["blockhash"] == standin.chain[0]["hash"]
    assert "nested" in str(results[3])
    bodies = [request for request in standin.requests if b'"wrong"' in request]
    assert len(bodies) == 1
    assert b'"getblockcount"' in bodies[0]


def test_a_call_that_may_change_something_empties_the_cache(client: Client, standin: StandIn) -> None:
    def reads() -> int:
        client.call("getblockhash", 0)
        return sum(b'"getblockhash"' in request for request in standin.requests)

    before = reads()
    assert reads() == before
    client.call("sendtoaddress", "D1", 1)
    after_a_write = reads()
    assert after_a_write == before + 1
    assert reads() == after_a_write
    client.batch([("getblockcount", []), ("sendtoaddress", ["D1", 1])])
    assert reads() == after_a_write + 1


def test_a_batch_that_is_too_long_for_the_node_goes_in_parts(standin: StandIn, gateways: GatewayFactory) -> None:
    gateway = ready(gateways(standin.url, batch_size=250))
    with Client(gateway.server.url) as client:
        assert client.batch([("getblockcount", [])] * 250) == [0] * 250
        assert standin.methods.count("getblockcount") == 250


def test_a_request_that_is_too_large_for_the_node_is_refused(standin: StandIn, gateways: GatewayFactory) -> None:
    gateway = ready(gateways(standin.url, message_size=4 * 2**20))
    with Client(gateway.server.url) as client, pytest.raises(RpcError, match="the node takes 2097152"):
        client.call("sendrawtransaction", "a" * 2**21)


def test_the_rate_limit_is_reported_as_such(standin: StandIn, gateways: GatewayFactory) -> None:
    gateway = ready(gateways(standin.url, limited_calls=0))
    with Client(gateway.server.url) as client:
        standin.tokens = 0
        with pytest.raises(RpcError) as caught:
            client.call("getblockcount")
        assert caught.value.code == -32005
        assert caught.value.data["retry_after_ms"] == 2000


def test_calls_that_wait_never_reach_the_node(standin: StandIn, gateways: GatewayFactory) -> None:
    gateway = ready(gateways(standin.url))
    with Client(gateway.server.url) as client:
        tip = standin.chain[-1]
        answer = {"hash": tip["hash"], "height": 0}
        assert client.call("waitfornewblock", 50) == answer
        assert client.call("waitfornewblock", timeout_ms=50) == answer
        assert client.call("waitforblockheight", 0) == answer
        assert client.call("waitforblock", hash=tip["hash"]) == answer
        assert client.call("waitforblock", blockhash="00", timeout_ms=50) == answer
    waiting = [Client(gateway.server.url) for _ in range(30)]
    threads, results = [], []
    for at, one in enumerate(waiting):
        method, params = [("waitfornewblock", []), ("waitforblockheight", [1]), ("waitfornewblock", [20_000])][at % 3]
        thread = threading.Thread(target=lambda one=one, m=method, p=params: results.append(one.call(m, *p)))  # type: ignore[misc]
        thread.start()
        threads.append(thread)
    wait_for(lambda: gateway.waiting_calls == 30)
    with Client(gateway.server.url) as client:
        assert client.call("getblockcount") == 0  # no other client is held up
    standin.mine()
    for thread in threads:
        thread.join(10)
    assert results == [{"hash": standin.chain[1]["hash"], "height": 1}] * 30
    for one in waiting:
        one.close()
    assert not any(method.startswith("waitfor") for method in standin.methods)


def test_waiting_calls_are_answered_when_the_gateway_stops(standin: StandIn, gateways: GatewayFactory) -> None:
    gateway = ready(gateways(standin.url))
    results: list[Any] = []
    with Client(gateway.server.url) as client:
        thread = threading.Thread(target=lambda: results.append(client.call("waitfornewblock", 20_000)))
        thread.start()
        wait_for(lambda: gateway.waiting_calls)
        assert gateway.stop(10 * TEST_TIMEOUT), "well before the time for it is over"
        thread.join(10)
    assert results == [{"hash": standin.chain[0]["hash"], "height": 0}]


def test_a_wait_before_the_node_is_known_is_refused(gateways: GatewayFactory) -> None:
    gateway = gateways("http://127.0.0.1:1")
    with Client(gateway.server.url) as client:
        with pytest.raises(RpcError) as caught:
            client.call("waitfornewblock")
        assert caught.value.code == -32009


# Credentials


def test_a_login_that_takes_seconds_is_borne(gateways: GatewayFactory) -> None:
    node = StandIn("gate:keeper", login_seconds=0.1)
    try:
        gateway = gateways(node.url, upstream_user="gate", upstream_password="keeper")
        wait_for(lambda: gateway.poller.polls)
        polled = gateway.poller.polls
        with Client(gateway.server.url) as client:
            assert client.call("getblockcount") == 0
        wait_for(lambda: gateway.poller.polls > polled + 1)
    finally:
        node.stop()


def test_refused_credentials_do_not_lock_the_gateway_out(gateways: GatewayFactory) -> None:
    node = StandIn("gate:keeper")
    try:
        gateway = gateways(node.url, upstream_user="gate", upstream_password="wrong")
        with Client(gateway.server.url) as client:
            wait_for(lambda: client.call("getnodestate")["reason"].startswith("the node rejects"))
            for _ in range(10):
                with pytest.raises(RpcError) as caught:
                    client.call("getblockcount")
                assert caught.value.code == -32009
                assert "wrong" not in str(caught.value)
        assert node.failures == 1
    finally:
        node.stop()


def test_a_cookie_is_read_again_when_the_node_has_another(tmp_path: Path, gateways: GatewayFactory) -> None:
    cookie = tmp_path / ".cookie"
    cookie.write_text("__cookie__:1")
    node = StandIn("__cookie__:1")
    try:
        gateway = ready(gateways(node.url, upstream_cookie=str(cookie)))
        with Client(gateway.server.url) as client:
            assert client.call("getblockcount") == 0
            node.account = "__cookie__:2"
            cookie.write_text("__cookie__:2")
            assert client.call("getblockcount") == 0
    finally:
        node.stop()


# Rights


def test_rights_are_decided_by_the_gateway(standin: StandIn, gateways: GatewayFactory, tmp_path: Path) -> None:
    users = tmp_path / "users.json"
    write_users(users, reader="readonly", spender="wallet", root="admin")
    gateway = ready(gateways(standin.url, users_file=str(users)))
    url = gateway.server.url
    with Client(url, user="reader", password="readerreader") as reader:
        assert reader.call("getblockcount") == 0
        for method in ("sendtoaddress", "dumpprivkey", "createhtlc", "consolidateutxos", "stop", "unheardof"):
            with pytest.raises(RpcError) as caught:
                reader.call(method, "D1", 1)
            assert caught.value.code == -32003
        results = reader.batch([("getblockcount", []), ("sendtoaddress", ["D1", 1])])
        assert results[0] == 0
        assert results[1].code == -32003
        with pytest.raises(RpcError):
            reader.call("send", "D1", 1)
    assert not {"sendtoaddress", "dumpprivkey", "stop", "unheardof", "send"} & set(standin.methods)
    with Client(url, user="spender", password="spenderspender") as spender:
        assert spender.call("sendtoaddress", "D1", 1) == {"ions": 100_000_000}
    with Client(url, user="root", password="rootroot") as root, pytest.raises(RpcError, match="Method not found"):
        root.call("unheardof")


# A node that is busy, slow or away


def test_one_slow_call_holds_up_the_node_and_not_the_gateway(standin: StandIn, gateways: GatewayFactory) -> None:
    gateway = ready(gateways(standin.url, call_timeout=0.5))
    with Client(gateway.server.url) as client:
        with pytest.raises(RpcError) as caught:
            client.call("slow")
        assert caught.value.code == -32002
        # The node is held still, and answers only behind this.
        assert {topic["topic"] for topic in client.call("topics")} >= {"blocks", "node"}
        standin.held.set()
        wait_for(lambda: _answers(client))


def _answers(client: Client) -> bool:
    try:
        return bool(client.call("getblockcount") == 0)
    except RpcError:
        return False


def test_an_error_of_a_node_that_is_down_says_when_to_retry(standin: StandIn, gateways: GatewayFactory) -> None:
    gateway = ready(gateways(standin.url))
    with Client(gateway.server.url) as client:
        nodes = client.subscribe("node")
        standin.stop()
        with pytest.raises(RpcError) as caught:
            client.call("getblockcount")
        assert caught.value.code == -32009
        assert caught.value.data["retry_after_ms"] > 0
        assert str(standin.port) not in str(caught.value)
        assert next(event.data["kind"] for event in nodes if event.data["kind"] != "up") == "down"
        again = StandIn(port=standin.port)
        try:
            event = nodes.get(10)
            assert event is not None
            assert event.data == {"kind": "up", "blocks": 0}
            assert client.call("getblockcount") == 0
        finally:
            again.stop()


def test_before_the_node_is_there_calls_are_refused_and_later_served(gateways: GatewayFactory) -> None:
    from ..support import free_port

    port = free_port()
    gateway = gateways(f"http://127.0.0.1:{port}")
    with Client(gateway.server.url) as client:
        with pytest.raises(RpcError) as caught:
            client.call("getblockcount")
        assert caught.value.code == -32009
        assert client.call("getnodestate")["kind"] == "down"
        node = StandIn(port=port)
        try:
            wait_for(lambda: _answers(client))
            assert gateway.node.dialect is DILITHION
        finally:
            node.stop()


def test_a_call_that_may_have_been_carried_out_is_not_called_retryable() -> None:
    lost = UpstreamError(UpstreamErrorKind.LOST)
    assert lost.code == -32002
    assert "retry_after_ms" not in lost.data

"""Calls of methods that are not registered, and answers that come later, through a running server."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dilithion_ws import CallContext, Config, RawRpcError, RpcError, RpcTable, WebSocketServer
from dilithion_ws.client import Client

from ..support import RawClient, wait_for
from ..support.accounts import write_users
from ..support.fixtures import ClientFactory, ServerFactory


def passing_on(context: CallContext, params: bytes) -> Any:
    """Answers with what was asked, as JSON that msgspec would write otherwise."""
    if context.method == "fails":
        raise RawRpcError(b'{"code": -5, "message": "no \\u00fc", "data": 1.50}')
    return msgspec.Raw(b'{"method": "%s",  "params": %s}' % (context.method.encode(), params or b"null"))


@pytest.fixture
def table() -> RpcTable:
    rpc = RpcTable()
    rpc.register("own", lambda: 1)
    rpc.fallback(passing_on, {"getblock": "READ_BLOCKCHAIN", "stop": None, "known": None})
    return rpc


def test_params_and_results_pass_unchanged(table: RpcTable, start: ServerFactory, connect: ClientFactory) -> None:
    client = connect(start(table))
    client.text('{"jsonrpc":"2.0","method":"getblock","params":[1.50, 18446744073709551617,"\\u00e9"],"id":1.0}')
    expected = b'{"method": "getblock",  "params": [1.50, 18446744073709551617,"\\u00e9"]}'
    assert client.frame()[1] == b'{"jsonrpc":"2.0","result":%b,"id":1.0}' % expected


def test_an_error_passes_unchanged(table: RpcTable, start: ServerFactory, connect: ClientFactory) -> None:
    client = connect(start(table))
    client.text('{"method":"fails","id":"a"}')
    error = b'{"code": -5, "message": "no \\u00fc", "data": 1.50}'
    assert client.frame()[1] == b'{"jsonrpc":"2.0","error":%b,"id":"a"}' % error


@pytest.mark.parametrize("text", [b"5", b"{}", b'{"code":"x"}', b"\xff", b'{"code":1,"message":'])
def test_what_is_no_error_is_not_passed_on_as_one(text: bytes) -> None:
    with pytest.raises(ValueError, match="not an error"):
        RawRpcError(text)


@pytest.mark.parametrize("name", ["", "rpc.x", "has space", "a" * 65, 'quote"'])
def test_odd_names_are_not_passed_on(name: str, table: RpcTable) -> None:
    assert table.get(name) is None


def test_registered_methods_come_first(table: RpcTable, start: ServerFactory) -> None:
    with Client(start(table).url) as client:
        assert client.call("own") == 1
        assert client.call("other")["method"] == "other"


def test_rights_are_those_that_were_declared(table: RpcTable, tmp_path: Path) -> None:
    users = tmp_path / "users.json"
    write_users(users, reader="readonly", root="admin")
    with WebSocketServer(table, Config(users_file=str(users))) as server:
        with Client(server.url, user="reader", password="readerreader") as reader:
            assert reader.call("getblock")["method"] == "getblock"
            for name, need in (("stop", "ADMIN_SERVER"), ("known", "the role admin"), ("unheard_of", "the role admin")):
                with pytest.raises(match=f"Insufficient permissions for method .{name}. .needs {need}"):
                    reader.call(name)
            described = {method["name"] for method in reader.call("rpc.discover")["methods"]}
            assert "getblock" in described
            assert not {"stop", "known", "*"} & described
        with Client(server.url, user="root", password="rootroot") as root:
            assert root.call("unheard_of")["method"] == "unheard_of"
            described = {method["name"] for method in root.call("rpc.discover")["methods"]}
            assert {"stop", "known"} <= described
            assert "*" not in described


def test_what_methods_take_is_described_where_it_is_known(start: ServerFactory) -> None:
    rpc = RpcTable()
    rpc.fallback(
        lambda context, params: None, dict.fromkeys(("getblock", "getwork")), params={"getblock": ("hash", "n")}
    )
    with Client(start(rpc).url) as client:
        described = {method["name"]: method for method in client.call("rpc.discover")["methods"]}
    assert [(param["name"], param["required"]) for param in described["getblock"]["params"]] == [
        ("hash", False),
        ("n", False),
    ]
    assert "default" not in described["getblock"]["params"][0]
    assert described["getblock"]["summary"] == "Passed on as it is"
    assert described["getwork"]["params"] == []
    assert described["getwork"]["summary"].endswith("what it takes is not known here")


def batch_of(*names: str) -> str:
    return json.dumps([{"jsonrpc": "2.0", "method": name, "id": at} for at, name in enumerate(names)])


def test_a_batch_is_passed_on_whole(start: ServerFactory, connect: ClientFactory) -> None:
    seen: list[list[str]] = []

    def together(calls: Sequence[tuple[CallContext, bytes]]) -> list[Any]:
        seen.append([context.method for context, _ in calls])
        return [RpcError(-1, "no") if context.method == "bad" else Decimal("0.10") for context, _ in calls]

    rpc = RpcTable()
    rpc.register("own", lambda: 1)
    rpc.fallback(passing_on, {"a": "READ_WALLET"}, batch=together)
    client = connect(start(rpc))
    client.text(batch_of("a", "own", "bad", "rpc.none", "c"))
    answers = json.loads(client.frame()[1], parse_float=str)
    assert seen == [["a", "bad", "c"]]
    assert [answer["id"] for answer in answers] == [0, 1, 2, 3, 4]
    assert [answer.get("result") for answer in answers] == ["0.10", 1, None, None, "0.10"]
    assert [answer["error"]["code"] for answer in answers if "error" in answer] == [-1, -32601]


@pytest.mark.parametrize("outcomes", [[], [1, 2, 3], None], ids=repr)
def test_a_batch_that_fails_answers_every_call(outcomes: Any, start: ServerFactory, connect: ClientFactory) -> None:
    def together(calls: Sequence[tuple[CallContext, bytes]]) -> list[Any]:
        if outcomes is None:
            raise RuntimeError("no")
        return list(outcomes)

    rpc = RpcTable()
    rpc.fallback(passing_on, batch=together)
    client = connect(start(rpc))
    client.text(batch_of("a", "b"))
    answers = json.loads(client.frame()[1])
    assert [answer["error"]["code"] for answer in answers] == [-32603, -32603]


def test_a_batch_keeps_the_limit_of_its_results(start: ServerFactory, connect: ClientFactory) -> None:
    rpc = RpcTable()
    rpc.fallback(passing_on, batch=lambda calls: ["x" * 400 for _ in calls])
    client = connect(start(rpc, result_size=1000))
    client.text(batch_of("a", "b", "c"))
    answers = json.loads(client.frame()[1])
    assert ["result" in answer for answer in answers] == [True, True, False]
    assert answers[2]["error"]["code"] == -32011


class Waits:
    """A method whose answers come later."""

    def __init__(self) -> None:
        self.waiting: list[Future[Any]] = []

    def wait(self) -> Future[Any]:
        self.waiting.append(Future())
        return self.waiting[-1]


@pytest.fixture(params=[False, True, None], ids=["fast", "blocking", "measured"])
def waits(request: pytest.FixtureRequest, rpc: RpcTable) -> Waits:
    made = Waits()
    rpc.register("wait", made.wait, blocking=request.param)
    return made


def test_an_answer_may_come_later(waits: Waits, start: ServerFactory, connect: ClientFactory) -> None:
    client = connect(start())
    client.text('{"method":"wait","id":1}')
    client.text('{"method":"getblockcount","id":2}')
    assert json.loads(client.frame()[1])["id"] == 2
    wait_for(lambda: waits.waiting)
    waits.waiting[0].set_result("there")
    assert json.loads(client.frame()[1]) == {"jsonrpc": "2.0", "result": "there", "id": 1}


def test_many_wait_without_a_thread(waits: Waits, start: ServerFactory, connect: ClientFactory) -> None:
    server = start(workers=3, queue=8)  # a worker may be a moment from being free
    before = threading.active_count()
    clients = [connect(server) for _ in range(40)]
    for client in clients:
        client.text('{"method":"getblockcount","id":0}')
        client.frame()
        client.text('{"method":"wait","id":1}')
        wait_for(lambda: len(waits.waiting) > clients.index(client))  # noqa: B023 - it is called at once
    assert threading.active_count() == before
    for future in waits.waiting:
        future.set_exception(RpcError(-7, "no"))
    assert [json.loads(client.frame()[1])["error"]["code"] for client in clients] == [-7] * 40


def test_an_answer_that_does_not_come_times_out(waits: Waits, start: ServerFactory, connect: ClientFactory) -> None:
    client = connect(start(call_timeout=0.2))
    client.text('{"method":"wait","id":1}')
    assert json.loads(client.frame()[1])["error"]["code"] == -32002
    wait_for(lambda: waits.waiting[0].cancelled())
    client.text('{"method":"getblockcount","id":2}')
    assert json.loads(client.frame()[1])["id"] == 2


def test_a_client_that_has_gone_is_not_missed(waits: Waits, start: ServerFactory, connect: ClientFactory) -> None:
    server = start()
    client = connect(server)
    client.text('{"method":"wait","id":1}')
    wait_for(lambda: waits.waiting)
    client.close()
    wait_for(lambda: not server.connection_count)
    waits.waiting[0].set_result(1)
    with Client(server.url) as other:
        assert other.call("getblockcount") == 840000


def test_in_a_batch_nothing_waits(waits: Waits, start: ServerFactory, connect: ClientFactory) -> None:
    client = connect(start())
    client.text(batch_of("wait", "getblockcount"))
    first, second = json.loads(client.frame()[1])
    assert "send it by itself" in first["error"]["message"]
    assert second["result"] == 840000


def test_over_http_an_answer_may_come_later_too(waits: Waits, start: ServerFactory) -> None:
    server = start(workers=3, queue=8)
    clients = [RawClient(server.port, upgrade=False) for _ in range(5)]
    body = b'{"method":"wait","id":1}'
    for count, client in enumerate(clients, 1):
        client.send(
            b"POST / HTTP/1.1\r\nHost: localhost\r\nX-Dilithion-RPC: 1\r\nContent-Length: %d\r\n\r\n%b"
            % (len(body), body)
        )
        wait_for(lambda: len(waits.waiting) == count)  # noqa: B023 - it is called at once
    for future in waits.waiting:
        future.set_result(5)
    for client in clients:
        status, _, text = client.response()
        assert (status, json.loads(text)) == (200, {"jsonrpc": "2.0", "result": 5, "id": 1})
        client.close()


def test_the_codes_of_errors_that_are_counted_are_bounded(start: ServerFactory) -> None:
    rpc = RpcTable()

    def fail(context: CallContext, params: bytes) -> Any:
        raise RpcError(int(params[1:-1]), "no")

    rpc.fallback(fail, {"a": "READ_WALLET"})
    with Client(start(rpc).url) as client:
        for code in range(1, 201):
            with pytest.raises(RpcError):
                client.call("a", code)
    counted = rpc.methods()["a"].errors
    assert len(counted) <= 65
    assert sum(counted.values()) == 200

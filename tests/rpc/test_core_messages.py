"""The three versions of JSON-RPC that clients of Bitcoin Core speak, in the form of its answers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dilithion_ws import Limits, RpcDialect, RpcTable, Session
from dilithion_ws.rpc.calls import BatchCall, OversizedBatch, SingleCall
from dilithion_ws.rpc.core_messages import CoreRequest, core_answer, read_core_request
from dilithion_ws.rpc.dispatcher import Dispatcher
from dilithion_ws.rpc.executor import Executor

from ..support import Clock


def make_dispatcher(limits: Limits | None = None) -> Dispatcher:
    rpc = RpcTable()
    rpc.register("echo", lambda value: value, permission="READ_BLOCKCHAIN", position_of="blocks")
    rpc.dialect = RpcDialect.CORE
    return Dispatcher(rpc, Executor(Limits() if limits is None else limits, Clock()))


def post(body: Any, dispatcher: Dispatcher | None = None) -> tuple[int, Any]:
    """Return status and answer of a POST, or None for a body that gets no answer."""
    dispatcher = dispatcher or make_dispatcher()
    request = read_core_request(body if isinstance(body, bytes) else json.dumps(body).encode(), Limits())
    outcome = dispatcher.receive(request.body, Session(1, ("127.0.0.1", 1)))
    if isinstance(outcome, OversizedBatch):  # as `HttpApp` does
        outcome = outcome.refuse("")
    answer = outcome.run() if isinstance(outcome, (SingleCall, BatchCall)) else outcome
    if answer is None:
        return 204, None
    assert isinstance(answer, bytes)
    status, text = core_answer(request, answer)
    return status, json.loads(text)


@pytest.mark.parametrize(
    "version", [{}, {"jsonrpc": "1.0"}, {"jsonrpc": "1.1"}, {"version": "1.1"}, {"jsonrpc": None}, {"jsonrpc": 1}]
)
def test_older_versions_get_both_members(version: dict[str, Any]) -> None:
    request = {**version, "method": "echo", "params": [0], "id": "curltest"}
    assert post(request) == (200, {"result": 0, "error": None, "id": "curltest"})
    assert post({**version, "method": "echo", "params": [0]}) == (200, {"result": 0, "error": None, "id": None})


def test_json_rpc_2_is_answered_as_the_standard_has_it() -> None:
    request = {"jsonrpc": "2.0", "method": "echo", "params": [0], "id": 1}
    assert post(request) == (200, {"jsonrpc": "2.0", "result": 0, "id": 1})
    status, answer = post({**request, "method": "nosuch"})
    assert (status, answer["error"]["code"], "result" in answer) == (200, -32601, False)
    del request["id"]
    assert post(request) == (204, None)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 500, -32700),
        (b"5", 400, -32600),
        ({"method": "nosuch", "id": 1}, 404, -32601),
        ({"method": "echo", "params": [], "id": 1}, 500, -32602),
        ({"method": "echo", "params": "x", "id": 1}, 400, -32600),
        ({"method": "echo", "params": [1], "id": 1, "jsonrpc": "3.0"}, 400, -32600),
        ({"id": 1}, 400, -32600),
        (b'{"jsonrpc":1e999,"method":"echo","id":1}', 400, -32600),
        (b'{"jsonrpc":[[]],"method":"echo","id":1}', 400, -32600),
        (b'{"jsonrpc":true,"method":"echo","id":1}', 400, -32600),
    ],
)
def test_errors_of_older_versions_have_a_status(body: Any, status: int, code: int) -> None:
    found, answer = post(body)
    assert (found, answer["error"]["code"], answer["result"]) == (status, code, None)
    assert set(answer) == {"result", "error", "id"}


def test_each_element_of_a_batch_is_answered_in_its_own_version() -> None:
    call = {"method": "echo", "params": [7], "id": 1}
    batch = [call, {**call, "jsonrpc": "2.0"}, {**call, "jsonrpc": "2.0", "method": "nosuch"}, 5]
    batch += [{"jsonrpc": "2.0", "method": "echo", "params": [8]}, {"method": "echo", "params": [9]}]
    batch += [{"jsonrpc": "2.0", "params": 1}]
    status, answers = post(batch)
    assert status == 200
    assert answers[0] == {"result": 7, "error": None, "id": 1}
    assert answers[1] == {"jsonrpc": "2.0", "result": 7, "id": 1}
    assert (answers[2]["error"]["code"], "result" in answers[2]) == (-32601, False)
    assert (answers[3]["error"]["code"], answers[3]["result"]) == (-32600, None)
    assert answers[4] == {"result": 9, "error": None, "id": None}
    assert answers[5]["error"]["code"] == -32600
    assert len(answers) == 6


def test_a_batch_may_have_a_thousand_calls_and_no_more() -> None:
    call = {"method": "echo", "params": [1], "id": 1}
    assert len(post([call] * 1000)[1]) == 1000
    status, answer = post([call] * 1001)
    assert (status, answer["error"]["code"]) == (500, -32010)
    assert "rpcwebsocketcorebatchsize" in answer["error"]["message"]
    deep = b"[" * 40 + b"]" * 40
    assert post(deep)[1]["error"]["code"] == -32700


_ids = st.one_of(st.none(), st.integers(), st.text(max_size=5))
_requests = st.fixed_dictionaries(
    {"method": st.sampled_from(["echo", "nosuch"]), "params": st.sampled_from([[1], [], {"value": "ä"}, None])},
    optional={"id": _ids, "jsonrpc": st.sampled_from(["1.0", "1.1", "2.0", "9"]), "version": st.just("1.1")},
)


@given(st.lists(_requests, min_size=1, max_size=6))
def test_a_batch_is_answered_as_its_requests_are_alone(batch: list[dict[str, Any]]) -> None:
    alone = [answer for _, answer in map(post, batch) if answer is not None]
    together = post(batch)[1]
    assert (together or []) == alone


def test_a_client_that_promises_too_much_gets_both_members() -> None:
    body = (
        b'[{"jsonrpc":"2.0","method":"echo","params":[1],"id":1},{"jsonrpc":"2.0","method":"echo","params":[2],"id":2}]'
    )
    request = read_core_request(body, Limits(), "AuthServiceProxy/0.1")
    assert request.are_standard == (False, False)
    assert read_core_request(body, Limits(), "curl/8").are_standard == (True, True)


@pytest.mark.parametrize("version", [b'"2.\\u0030"', b'"\\u0032.0"'])
def test_a_version_may_be_written_with_escapes(version: bytes) -> None:
    request = b'{"jsonrpc":%b,"method":"echo","params":[1]}' % version
    legacy = b'{"method":"echo","params":[2],"id":2}'
    assert post(b"[%b,%b]" % (legacy, request)) == (200, [{"result": 2, "error": None, "id": 2}])
    assert post(request) == (204, None)


def test_answers_that_do_not_belong_to_the_requests_are_all_shown() -> None:
    answers = b'[{"jsonrpc":"2.0","result":1,"id":1},{"jsonrpc":"2.0","result":2,"id":2}]'
    status, text = core_answer(CoreRequest(b"[]", True, (True,)), answers)
    assert (status, [answer["error"] for answer in json.loads(text)]) == (200, [None, None])

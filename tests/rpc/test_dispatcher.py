from __future__ import annotations

import dataclasses
import json
import logging
from concurrent.futures import Future
from typing import Any

import pytest

from dilithion_ws import CallContext, Limits, RpcError, RpcTable, Session
from dilithion_ws.auth.denial import Denial, DenialKind
from dilithion_ws.rpc.calls import BatchCall, OversizedBatch, SingleCall
from dilithion_ws.rpc.dispatcher import Dispatcher
from dilithion_ws.rpc.executor import Executor
from dilithion_ws.util.enums import Speed

from ..support import Clock

SESSION = Session(3, ("127.0.0.1", 5000), "alice")


class Bench:
    """A dispatcher, a table with handlers of every kind, and a clock."""

    def __init__(self, **limits: Any) -> None:
        self.rpc = RpcTable()
        self.clock = Clock()
        self.dispatcher = Dispatcher(self.rpc, Executor(Limits.from_names(**limits), self.clock))
        self.rpc.register("one", lambda: 1)
        self.rpc.register("echo", lambda value: value)

    def receive(self, message: Any) -> Any:
        data = message if isinstance(message, bytes) else json.dumps(message).encode()
        found = self.dispatcher.receive(data, SESSION)
        answer = found if found is None or isinstance(found, bytes) else found.run()
        assert not isinstance(answer, Future)
        return None if answer is None else json.loads(answer)

    def call(self, method: str, params: Any = None, id: Any = 1) -> Any:
        return self.receive({"jsonrpc": "2.0", "method": method, "params": params or [], "id": id})


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_call(bench: Bench) -> None:
    assert bench.call("one", id="a") == {"jsonrpc": "2.0", "result": 1, "id": "a"}


def test_a_notification_is_run_and_not_answered(bench: Bench) -> None:
    seen: list[int] = []
    bench.rpc.register("note", lambda value: seen.append(value))
    assert bench.receive({"method": "note", "params": [5]}) is None
    assert bench.receive({"method": "nosuch"}) is None
    assert bench.receive({"method": "note", "params": []}) is None
    assert seen == [5]


def test_an_unknown_method(bench: Bench) -> None:
    answer = bench.call("nosuch", id=7)
    assert answer["error"]["code"] == -32601
    assert answer["error"]["error_code"] == "RPC-METHOD-NOT-FOUND"
    assert len(answer["error"]["recovery_steps"]) == 3
    assert answer["id"] == 7


@pytest.mark.parametrize(("message", "code"), [(b"{", -32700), (b'{"method":"one","id":true}', -32600), (b"5", -32600)])
def test_what_is_no_request_is_answered_with_a_null_id(bench: Bench, message: bytes, code: int) -> None:
    answer = bench.receive(message)
    assert (answer["error"]["code"], answer["id"]) == (code, None)


def test_the_id_is_kept_where_only_the_request_is_invalid(bench: Bench) -> None:
    assert bench.receive(b'{"method":5,"id":"x"}')["id"] == "x"


def test_an_rpc_error_passes_unchanged(bench: Bench) -> None:
    def fail() -> None:
        raise RpcError(-5, 'Block "x" not found', {"hash": "x"}, error_code="NO-BLOCK", recovery_steps=("Look",))

    bench.rpc.register("fail", fail)
    assert bench.call("fail")["error"] == {
        "code": -5,
        "message": 'Block "x" not found',
        "data": {"hash": "x"},
        "error_code": "NO-BLOCK",
        "recovery_steps": ["Look"],
    }


def raiser(error: BaseException) -> Any:
    def fail() -> None:
        raise error

    return fail


def recurse() -> None:
    recurse()


def endless() -> Any:
    items: list[Any] = []
    items.append(items)
    return items


@pytest.mark.parametrize(
    "function",
    [
        raiser(ValueError("secret text")),
        raiser(SystemExit(3)),
        raiser(KeyboardInterrupt()),
        raiser(GeneratorExit()),
        raiser(MemoryError()),
        recurse,
        endless,
        object,
        lambda: {1, object()},
        lambda: "\ud800",
    ],
)
def test_every_fault_of_a_handler_is_an_incident(bench: Bench, function: Any, caplog: pytest.LogCaptureFixture) -> None:
    bench.rpc.register("fail", function)
    with caplog.at_level(logging.ERROR):
        error = bench.call("fail")["error"]
    assert error["code"] == -32603
    assert "secret" not in json.dumps(error)
    incident = error["data"]["incident"]
    assert incident in error["message"]
    assert f"incident {incident}: fail, called by" in caplog.text
    assert bench.call("one")["result"] == 1


def test_a_result_past_the_limit(bench: Bench) -> None:
    bench = Bench(result_size=1000)
    assert bench.call("echo", ["x" * 990])["result"] == "x" * 990
    error = bench.call("echo", ["x" * 1000])["error"]
    assert error["code"] == -32011
    assert "result size limit of 1000 bytes (rpcwebsocketresultsize)" in error["message"]
    bench.rpc.register("fail", raiser(RpcError(1, "m", "x" * 2000)))
    assert bench.call("fail")["error"]["code"] == -32011


def test_the_context(bench: Bench) -> None:
    def who(context: CallContext) -> Any:
        return [context.user, context.connection_id, context.id, context.method, context.deadline.remaining()]

    bench.rpc.register("who", who)
    assert bench.call("who", id="q")["result"] == ["alice", 3, "q", "who", 30.0]
    assert bench.call("who", id=2.5)["result"][2] == 2.5


@pytest.mark.parametrize("id", [b"1e999", b"9" * 5000])
def test_an_id_beyond_pythons_numbers_reaches_a_handler_as_text(bench: Bench, id: bytes) -> None:
    def who(context: CallContext) -> Any:
        return str(type(context.id).__name__)

    bench.rpc.register("who", who)
    call = bench.dispatcher.receive(b'{"method":"who","id":%b}' % id, SESSION)
    assert isinstance(call, SingleCall)
    assert call.run() == b'{"jsonrpc":"2.0","result":"str","id":%b}' % id


@dataclasses.dataclass
class Picky:
    value: int

    def __post_init__(self) -> None:
        raise KeyError(self.value)


def test_faults_outside_the_handler_are_incidents_too(bench: Bench) -> None:
    def picky(value: Picky) -> None: ...

    def hashes(value: set[Any]) -> None: ...

    bench.rpc.register("picky", picky)
    bench.rpc.register("hashes", hashes)
    bench.rpc.register("fail", raiser(RpcError(-1, "bad \udcff name", "data")))
    assert bench.call("picky", [{"value": 1}])["error"]["code"] in (-32602, -32603)
    assert bench.call("hashes", [[[1]]])["error"]["code"] in (-32602, -32603)
    assert bench.call("fail")["error"]["message"] == "bad ? name"


def test_the_deadline_counts_from_the_arrival(bench: Bench) -> None:

    def left(context: CallContext) -> float:
        return context.deadline.remaining()

    bench.rpc.register("left", left)
    call = bench.dispatcher.receive(b'{"method":"left","id":1}', SESSION)
    assert isinstance(call, SingleCall)
    bench.clock.now += 10
    answer = call.run()
    assert isinstance(answer, bytes)
    assert json.loads(answer)["result"] == 20.0


def test_a_batch_is_answered_in_order_without_its_notifications(bench: Bench) -> None:
    answers = bench.receive(
        [
            {"method": "one", "id": 1},
            {"method": "one"},
            {"method": "nosuch", "id": "2"},
            5,
            {"method": "echo", "params": [3], "id": 3},
        ]
    )
    assert [answer["id"] for answer in answers] == [1, "2", None, 3]
    assert [answer.get("result", answer.get("error", {}).get("code")) for answer in answers] == [1, -32601, -32600, 3]


def test_a_batch_of_notifications_has_no_answer(bench: Bench) -> None:
    assert bench.receive([{"method": "one"}, {"method": "one"}]) is None


@pytest.mark.parametrize(
    ("message", "code"),
    [(b"[]", -32600), (b"[1,", -32700), (b"[" + b'{"method":"one"},' * 100 + b'{"method":"one"}]', -32010)],
)
def test_bad_batches_are_answered_once(bench: Bench, message: bytes, code: int) -> None:
    answer = bench.receive(message)
    assert (answer["error"]["code"], answer["id"]) == (code, None)


def test_each_request_of_a_batch_that_is_too_large_gets_the_error(bench: Bench) -> None:
    ids = [f'{{"method":"one","id":{id}}}' for id in ("1", '"a"', "1.50", "null", "[]")]
    message = f"[{','.join([*ids, '7', *['{}'] * 100])}]".replace("{}", '{"method":"one"}').encode()
    call = bench.dispatcher.receive(message, SESSION)
    assert isinstance(call, OversizedBatch)
    assert b'"id":1.50}' in (call.run() or b"")
    answers = bench.receive(message)
    assert [answer["id"] for answer in answers] == [1, "a", 1.5, None, None, None]
    assert {answer["error"]["code"] for answer in answers} == {-32010}
    assert answers[0]["error"]["message"].endswith("limit of 100 calls (rpcwebsocketbatchsize)")


def test_errors_for_a_batch_that_would_be_too_large_are_one() -> None:
    bench = Bench(batch_size=1, result_size=300)
    answer = bench.receive([{"method": "one", "id": at} for at in range(4)])
    assert (answer["error"]["code"], answer["id"]) == (-32010, None)


def test_a_call_of_a_batch_that_waits_gives_its_hook_the_refusal(bench: Bench) -> None:
    told: list[bool] = []

    def waits(context: CallContext) -> Future[int]:
        context.on_answer(told.append)
        return Future()

    bench.rpc.register("waits", waits)
    answers = bench.receive([{"method": "waits", "id": 1}, {"method": "one", "id": 2}])
    assert "can't be part of a batch" in answers[0]["error"]["message"]
    assert told == [False]


def test_the_results_of_a_batch_count_together() -> None:
    bench = Bench(result_size=1000)
    answers = bench.receive([{"method": "echo", "params": ["x" * 400], "id": at} for at in range(4)])
    assert [("result" in answer, answer["id"]) for answer in answers] == [(True, 0), (True, 1), (False, 2), (False, 3)]
    assert answers[2]["error"]["code"] == -32011


def test_refusals_and_timeouts_have_their_codes(bench: Bench) -> None:
    call = bench.dispatcher.receive(b'{"method":"one","id":"5"}', SESSION)
    assert isinstance(call, SingleCall)
    busy = json.loads(call.refuse("the queue is full") or b"")
    assert busy["error"]["code"] == -32009
    assert busy["error"]["data"]["retry_after_ms"] > 0
    late = json.loads(call.expire() or b"")
    assert late["error"]["code"] == -32002
    assert "rpcwebsocketcalltimeout" in late["error"]["message"]
    assert busy["id"] == late["id"] == "5"
    note = bench.dispatcher.receive(b'{"method":"one"}', SESSION)
    assert isinstance(note, SingleCall)
    assert note.refuse("") is None
    assert note.expire() is None


def test_a_batch_that_times_out_keeps_what_is_done(bench: Bench) -> None:
    calls: list[Any] = []

    def expire() -> int:
        calls.append(json.loads(batch.expire() or b""))
        return 5

    bench.rpc.register("expire", expire)
    items = [
        {"method": "one", "id": 1},
        {"method": "expire", "id": 2},
        7,
        {"method": "one"},
        {"method": "one", "id": 3},
    ]
    batch = bench.dispatcher.receive(json.dumps(items).encode(), SESSION)
    assert isinstance(batch, BatchCall)
    assert batch.run() is None
    codes = [(answer["id"], answer.get("error", {}).get("code")) for answer in calls[0]]
    assert codes == [(1, None), (2, -32002), (None, -32600), (3, -32002)]


def test_a_refused_batch_is_refused_element_by_element(bench: Bench) -> None:
    batch = bench.dispatcher.receive(b'[{"method":"one","id":1},{"method":"one"},5,{"method":"one","id":2}]', SESSION)
    assert isinstance(batch, BatchCall)
    answers = json.loads(batch.refuse("full") or b"")
    assert [(answer["id"], answer["error"]["code"]) for answer in answers] == [(1, -32009), (None, -32600), (2, -32009)]


def test_a_batch_is_as_slow_as_its_slowest_method_or_its_sum(bench: Bench) -> None:
    bench.rpc.register("wait", lambda: None, blocking=True)
    batch = bench.dispatcher.receive(b'[{"method":"one","id":1},{"method":"wait","id":2}]', SESSION)
    assert isinstance(batch, BatchCall)
    assert batch.speed == Speed.SLOW
    one = bench.rpc.methods()["one"]
    one.record_duration(0.0005, 1.0)
    many = bench.dispatcher.receive(json.dumps([{"method": "one", "id": 1}] * 100).encode(), SESSION)
    assert isinstance(many, BatchCall)
    assert many.speed == Speed.SLOW


def test_slow_methods_are_noticed(bench: Bench) -> None:
    def slow() -> None:
        bench.clock.now += 0.05

    bench.rpc.register("slow", slow)
    assert bench.rpc.methods()["slow"].speed == Speed.UNKNOWN
    bench.call("slow")
    assert bench.rpc.methods()["slow"].speed == Speed.SLOW
    call = bench.dispatcher.receive(b'{"method":"one","id":1}', SESSION)
    assert isinstance(call, SingleCall)
    call.on_stall()
    assert bench.rpc.methods()["one"].speed == Speed.SLOW


def test_a_session_that_is_not_authorized_goes_to_the_guard_whatever_its_rights() -> None:
    """Its user may have been removed and created again."""
    asked: list[str] = []

    class Doorkeeper:
        def check_call(self, session: Session, name: str, method: Any) -> Denial | None:
            asked.append(name)
            if session.is_authorized:
                return None
            return Denial(kind=DenialKind.NOT_AUTHENTICATED, message="Not authenticated")

        def check_malformed(self, session: Session) -> Denial | None:
            return None

    table = RpcTable()
    table.register("m", lambda: 1, permission="READ_BLOCKCHAIN")
    dispatcher = Dispatcher(table, Executor(Limits()), guard=Doorkeeper())
    session = Session(1, ("127.0.0.1", 1))
    assert isinstance(dispatcher.receive(b'{"method":"m","id":1}', session), SingleCall)
    assert asked == []
    session.is_authorized = False
    answer = dispatcher.receive(b'{"method":"m","id":1}', session)
    assert isinstance(answer, bytes)
    assert b"-32001" in answer
    assert asked == ["m"]
    assert session.denial is not None


def test_a_call_is_shown_without_its_params() -> None:
    table = RpcTable()
    table.register("m", lambda value: value)
    call = Dispatcher(table, Executor(Limits())).receive(
        b'{"method":"m","params":["hidden"],"id":1}', Session(1, ("127.0.0.1", 1))
    )
    assert repr(call) == "<SingleCall m>"

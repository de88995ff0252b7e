"""Calls of every kind on one connection: fast, slow, serial, later, failing; without threads."""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from dilithion_ws import CloseStatus, ConnectionNotFoundError, OutboxFullError, Session
from dilithion_ws.net.connection_registry import ConnectionSubscriber
from dilithion_ws.net.interfaces import Accepted, RawReply
from dilithion_ws.protocol.frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT
from dilithion_ws.protocol.http import HttpRefusal
from dilithion_ws.protocol.message_encoder import encode_message
from dilithion_ws.util.enums import OfferResult, Speed, TaskKind

from ..support import REQUEST, client_frame
from ..support.net import Echo, Machine
from .test_event_loop import Peer


class Scripted:
    """A task that does what the test says."""

    def __init__(
        self, outcome: Any, speed: Speed = Speed.SLOW, *, is_serial: bool = False, kind: TaskKind = TaskKind.CALL
    ) -> None:
        self.outcome = outcome
        self.speed = speed
        self.is_serial = is_serial
        self.kind = kind
        self.hooks: list[Callable[[bool], None]] | None = None
        self.session = Session(1, ("127.0.0.1", 1))
        self.is_upgrade = False
        self.timeout: float | None = None

    def run(self) -> Any:
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome

    def refuse(self, reason: str) -> Any:
        return HttpRefusal(503, reason) if self.is_upgrade else f"refused: {reason}".encode()

    def expire(self) -> bytes:
        return b"expired"

    def on_stall(self) -> None: ...


class ScriptedService(Echo):
    """Answers each message by the next entry of `replies`."""

    def __init__(self) -> None:
        super().__init__()
        self.replies: list[Any] = []
        self.decision: Any = None
        self.pings_allowed = True
        self.check_after = math.inf
        self.sessions: list[Session] = []

    def upgrade(self, connection_id: int, address: Any, request: Any, certificate: bytes = b"") -> Any:
        self.sessions.append(Session(connection_id, address))
        accepted = Accepted(self.sessions[-1], (), self.check_after)
        if self.decision is None:
            return accepted
        self.decision.session, self.decision.is_upgrade = self.sessions[-1], True
        if self.decision.outcome is None:
            self.decision.outcome = accepted
        return self.decision

    def receive(self, session: Session, opcode: int, payload: bytes) -> Any:
        reply = self.replies.pop(0) if self.replies else payload
        if isinstance(reply, Scripted):
            reply.session = session
        return reply

    def may_ping(self, session: Session) -> bool:
        return self.pings_allowed

    def on_deadline(self, session: Session) -> CloseStatus | float:
        return math.inf if session.is_authorized else CloseStatus(4401, "too slow")


class Desk:
    """A machine with one client."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("ping_interval", 1e6)
        self.machine = Machine(**options)
        self.service = ScriptedService()
        self.machine.service = self.service
        self.machine.reactor.service = self.machine.loop.handler.messages.service = self.service
        self.service.loop = self.machine.loop
        self.peer = Peer(self.machine.accept())

    def upgrade(self) -> None:
        self.peer.send(REQUEST)
        self.turn()

    def turn(self) -> list[tuple[int, bytes]]:
        """Step, and return the frames that arrived since the last time."""
        before = len(self.peer.frames)
        self.machine.step()
        self.peer.read()
        self.machine.step()
        return self.peer.frames[before:]

    def send(self, *replies: Any, count: int | None = None) -> list[tuple[int, bytes]]:
        """Send a message for each of these replies of the service, at once."""
        self.service.replies += replies
        number = len(replies) if count is None else count
        self.peer.send(b"".join(client_frame(TEXT, b"m%d" % at) for at in range(number)))
        return self.turn()

    def finish(self) -> list[tuple[int, bytes]]:
        """Run all jobs."""
        while self.machine.pool.jobs:
            self.machine.run_job()
        return self.turn()

    @property
    def session(self) -> Session:
        return self.service.sessions[-1]


@pytest.fixture
def make() -> Iterator[Callable[..., Desk]]:
    desks: list[Desk] = []

    def make(**options: Any) -> Desk:
        desks.append(Desk(**options))
        return desks[-1]

    yield make
    for desk in desks:
        desk.machine.close()
        desk.peer.sock.close()


@pytest.fixture
def desk(make: Callable[..., Desk]) -> Desk:
    desk = make()
    desk.upgrade()
    return desk


def texts(frames: list[tuple[int, bytes]]) -> list[bytes]:
    return [payload for _, payload in frames]


def code(frame: tuple[int, bytes]) -> int:
    assert frame[0] == CLOSE
    number: int = struct.unpack("!H", frame[1][:2])[0]
    return number


# Tasks


@pytest.mark.parametrize("speed", [Speed.DECLARED_FAST, Speed.MEASURED_FAST, Speed.UNKNOWN])
def test_fast_tasks_are_answered_by_the_leader(desk: Desk, speed: Speed) -> None:
    assert texts(desk.send(Scripted(b"a", speed), Scripted(RawReply(BINARY, b"raw"), speed))) == [b"a", b"raw"]
    assert desk.machine.pool.jobs == []


@pytest.mark.parametrize(
    ("reserve", "idle", "speed"),
    [(True, 1, Speed.MEASURED_FAST), (True, 1, Speed.UNKNOWN), (False, 0, Speed.UNKNOWN), (False, 1, Speed.SLOW)],
)
def test_tasks_that_may_block_need_another_leader_in_reserve(
    desk: Desk, reserve: bool, idle: int, speed: Speed
) -> None:
    desk.machine.reactor.fast_calls_only, desk.machine.pool.idle = reserve, idle
    assert desk.send(Scripted(b"a", speed)) == []
    assert texts(desk.finish()) == [b"a"]


def test_a_message_behind_a_serial_task_waits(desk: Desk) -> None:
    assert desk.send(Scripted(b"login", is_serial=True), b"after") == []
    assert texts(desk.finish()) == [b"login", b"after"]


def test_a_message_without_an_answer_has_none(desk: Desk) -> None:
    assert texts(desk.send(None, b"a", Scripted(None), Scripted(None, Speed.DECLARED_FAST))) == [b"a"]
    assert desk.finish() == []
    assert desk.machine.registry.all()[0].in_flight == 0


@pytest.mark.parametrize("speed", [Speed.SLOW, Speed.DECLARED_FAST])
def test_a_task_may_result_in_a_future_or_in_another_task(desk: Desk, speed: Speed) -> None:
    future: Future[bytes] = Future()
    desk.send(Scripted(future, speed), Scripted(Scripted(b"second", Speed.DECLARED_FAST), speed))
    desk.finish()
    assert b"second" in texts(desk.peer.frames)
    future.set_result(b"first")
    desk.turn()
    assert set(texts(desk.peer.frames)) == {b"first", b"second"}


def test_a_follow_up_may_need_the_pool_again(desk: Desk) -> None:
    desk.send(Scripted(Scripted(b"twice")))
    desk.machine.run_job()
    assert desk.turn() == []
    assert texts(desk.finish()) == [b"twice"]


@pytest.mark.parametrize("speed", [Speed.SLOW, Speed.DECLARED_FAST])
def test_a_task_that_raises_is_refused(desk: Desk, speed: Speed, caplog: pytest.LogCaptureFixture) -> None:
    desk.send(Scripted(ValueError("a fault"), speed))
    desk.finish()
    assert texts(desk.peer.frames) == [b"refused: internal error"]
    assert "a call raised" in caplog.text


def test_a_future_past_the_deadline_is_cancelled(desk: Desk) -> None:
    future: Future[bytes] = Future()
    called: list[bool] = []
    task = Scripted(future, Speed.DECLARED_FAST)
    task.hooks = [called.append]
    desk.send(task)
    desk.machine.advance(desk.machine.reactor.limits.calls.call_timeout)
    desk.turn()
    assert texts(desk.peer.frames) == [b"expired"]
    assert future.cancelled()
    assert called == [False], "the answer that the hook belongs to was not sent"


def test_a_call_past_its_deadline_is_not_run_any_more(desk: Desk) -> None:
    future: Future[bytes] = Future()
    desk.send(Scripted(future))
    desk.machine.pool.jobs, jobs = [], desk.machine.pool.jobs
    desk.machine.advance(desk.machine.reactor.limits.calls.call_timeout)
    desk.turn()
    assert texts(desk.peer.frames) == [b"expired"]
    jobs[0].run()
    assert not future.done(), "a call that was answered is not even run"


def test_a_full_queue_refuses(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk.machine.pool, "submit", lambda job, job_class: False)
    (answer,) = texts(desk.send(Scripted(b"a")))
    assert answer.startswith(b"refused: the queue is full; queue limit of 64")


def test_an_evicted_login_is_refused(desk: Desk) -> None:
    desk.send(Scripted(b"login", is_serial=True, kind=TaskKind.LOGIN), b"after")
    (job,) = desk.machine.pool.jobs
    desk.machine.pool.jobs.clear()
    job.on_evicted()
    answers = desk.turn()
    assert len(answers) == 2


def test_the_hash_of_a_client_that_has_disconnected_is_skipped(desk: Desk) -> None:
    desk.send(Scripted(AssertionError("must not run"), kind=TaskKind.LOGIN))
    desk.peer.sock.close()
    desk.machine.run_job()
    desk.machine.step()
    assert desk.machine.registry.all() == []


def test_hooks_run_after_the_answer_was_queued(desk: Desk) -> None:
    called: list[bool] = []
    quick, slow = Scripted(b"quick", Speed.DECLARED_FAST), Scripted(b"slow")
    quick.hooks, slow.hooks = [called.append], [called.append]
    desk.send(quick, b"next", slow)
    assert called == [True]
    desk.finish()
    assert called == [True, True]


def test_hooks_of_an_expired_call_learn_that_nothing_was_sent(desk: Desk) -> None:
    called: list[bool] = []
    late = Scripted(b"late")
    desk.send(late)
    jobs, desk.machine.pool.jobs = desk.machine.pool.jobs, []
    desk.machine.advance(desk.machine.reactor.limits.calls.call_timeout)
    late.hooks = [called.append]
    call: Any = jobs[0].run
    call.__self__.finish(b"late")
    assert called == [False]


def test_more_calls_than_may_be_in_flight_wait(make: Callable[..., Desk]) -> None:
    desk = make(in_flight=2)
    desk.upgrade()
    desk.send(*(Scripted(b"%d" % number) for number in range(5)))
    assert len(desk.machine.pool.jobs) == 2
    assert sorted(texts(desk.finish() + desk.finish() + desk.finish())) == [b"%d" % number for number in range(5)]


# Sending


def test_a_client_that_does_not_read_is_not_read(make: Callable[..., Desk]) -> None:
    desk = make(outbox=4096)
    desk.upgrade()
    desk.service.replies = [b"x" * 60_000 for _ in range(4)]
    desk.peer.send(b"".join(client_frame(TEXT, b"m") for _ in range(4)))
    desk.machine.step()
    assert desk.machine.registry.all()[0].unsent > 4096
    assert desk.service.replies, "the later messages wait"
    for _ in range(200):
        desk.turn()
    assert len(desk.peer.frames) == 4


def test_answers_of_workers_are_refused_past_the_limit(make: Callable[..., Desk]) -> None:
    desk = make(outbox=4096, result_size=100_000)
    desk.upgrade()
    desk.service.replies = [Scripted(b"x" * 90_000) for _ in range(4)]
    desk.peer.send(b"".join(client_frame(TEXT, b"m") for _ in range(4)))
    desk.machine.step()
    while desk.machine.pool.jobs:
        desk.machine.run_job()
    for _ in range(200):
        desk.turn()
    assert any(b"answers wait unread past the outbox limit" in text for text in texts(desk.peer.frames))


def test_the_host_sends_and_broadcasts(desk: Desk) -> None:
    registry = desk.machine.registry
    (connection,) = registry.websockets()
    registry.send(connection.id, encode_message("one"))
    assert registry.broadcast(encode_message(b"all")) == 1
    desk.machine.send_broadcasts()
    assert desk.turn() == [(TEXT, b"one"), (BINARY, b"all")]
    with pytest.raises(ConnectionNotFoundError):
        registry.send(0, b"")
    with pytest.raises(ConnectionNotFoundError):
        registry.close(0, CloseStatus(1000, ""))
    assert registry.sessions() == [desk.session]


def test_a_full_write_buffer_is_an_error(make: Callable[..., Desk]) -> None:
    desk = make(outbox=4096)
    desk.upgrade()
    registry = desk.machine.registry
    (connection,) = registry.websockets()
    registry.send(connection.id, encode_message(b"x" * 100_000))
    with pytest.raises(OutboxFullError):
        registry.send(connection.id, encode_message(b"y"))


def test_a_subscriber_gets_frames_until_it_is_cancelled(desk: Desk) -> None:
    (connection,) = desk.machine.registry.websockets()
    subscriber = desk.machine.registry.subscriber(connection.id)
    assert isinstance(subscriber, ConnectionSubscriber)
    assert (subscriber.id, subscriber.session, subscriber.is_open) == (connection.id, desk.session, True)
    recipient = type("Recipient", (), {"subscriber": subscriber, "ended": False})()
    assert subscriber.try_send(encode_message("event"), recipient) is OfferResult.SENT
    assert subscriber.send_many(encode_message("event"), [recipient]) == []
    subscriber.cancel(recipient)
    assert subscriber.try_send(encode_message("event"), recipient) is OfferResult.CLOSED
    assert len(desk.turn()) == 2
    assert desk.machine.registry.subscriber(0) is None


# Closing


def test_policy_closes_after_the_answer(desk: Desk) -> None:
    desk.session.close_after = CloseStatus(1008, "enough")
    answer, close = desk.send(b"last")
    assert (answer[1], code(close)) == (b"last", 1008)


def test_policy_closes_when_a_task_has_ended(desk: Desk) -> None:
    desk.send(Scripted(b"login"), b"other")
    desk.session.close_after = CloseStatus(4401, "removed")
    answers = desk.finish()
    assert answers[-2][1] == b"login"
    assert code(answers[-1]) == 4401


def test_a_ping_past_the_rate_is_not_answered_and_may_close(desk: Desk) -> None:
    desk.peer.send(client_frame(PING, b"a"))
    assert desk.turn() == [(PONG, b"a")]
    desk.service.pings_allowed = False
    desk.peer.send(client_frame(PING, b"b"))
    assert desk.turn() == []
    desk.session.close_after = CloseStatus(1008, "enough")
    desk.peer.send(client_frame(PING, b"c") * 2)
    (close,) = desk.turn()
    assert code(close) == 1008


def test_a_close_is_answered_while_calls_are_in_flight(desk: Desk) -> None:
    task = Scripted(b"slow")
    told: list[bool] = []
    task.hooks = [told.append]
    desk.send(task)
    desk.peer.send(client_frame(CLOSE, struct.pack("!H", 1000)))
    (close,) = desk.turn()
    assert code(close) == 1000
    assert desk.finish() == [], "the answer is dropped"
    assert told == [False]


@pytest.mark.parametrize("reason", ["in flight", "serial", "closing when idle"])
def test_a_close_waits_while_nothing_is_read(make: Callable[..., Desk], reason: str) -> None:
    desk = make(in_flight=1 if reason == "in flight" else 8)
    desk.upgrade()
    desk.send(Scripted(b"slow", is_serial=reason == "serial"))
    if reason == "closing when idle":
        (connection,) = desk.machine.registry.all()
        desk.machine.registry.close_when_idle(connection.id, CloseStatus(1001, "bye"))
        assert desk.turn() == []
    desk.peer.send(client_frame(CLOSE, struct.pack("!H", 1000)))
    assert desk.turn() == []
    answer, close = desk.finish()
    assert (answer[1], code(close)) == (b"slow", 1001 if reason == "closing when idle" else 1000)


def test_a_server_that_stops_does_not_wait_for_a_client_that_has_closed(desk: Desk) -> None:
    desk.send(Scripted(b"slow"))
    desk.peer.send(client_frame(CLOSE, struct.pack("!H", 1000)))
    desk.turn()
    desk.peer.sock.close()
    desk.machine.step()
    assert desk.machine.registry.all() == []


def test_an_idle_connection_is_closed_when_its_calls_have_ended(desk: Desk) -> None:
    desk.send(Scripted(b"slow"))
    (connection,) = desk.machine.registry.all()
    desk.machine.registry.close_when_idle(connection.id, CloseStatus(1012, "restart"))
    assert desk.turn() == []
    answer, close = desk.finish()
    assert (answer[1], code(close)) == (b"slow", 1012)


def test_a_server_that_stops_waits_for_calls(desk: Desk) -> None:
    desk.send(Scripted(b"slow"))
    desk.machine.mailbox.post(lambda leader: leader.closer.start_shutdown())
    assert desk.turn() == []
    answer, close = desk.finish()
    assert (answer[1], code(close)) == (b"slow", 1001)


@pytest.mark.parametrize(("data", "expected"), [(b"\x83\x80abcd", 1002), (client_frame(TEXT, b"\xff"), 1007)])
def test_a_protocol_error_closes(desk: Desk, data: bytes, expected: int) -> None:
    desk.peer.send(data)
    (close,) = desk.turn()
    assert code(close) == expected


def test_a_fault_closes_one_connection(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk.service, "receive", lambda *args: (_ for _ in ()).throw(ZeroDivisionError))
    (close,) = desk.send(count=1)
    assert code(close) == 1011


# Upgrades that need the pool


def test_a_password_is_verified_in_the_pool(make: Callable[..., Desk]) -> None:
    desk = make()
    desk.service.decision = Scripted(None, kind=TaskKind.LOGIN, is_serial=True)
    desk.peer.send(REQUEST + client_frame(TEXT, b"first"))
    assert desk.turn() == []
    assert texts(desk.finish()) == [b"first"]


def test_a_wrong_password_is_refused(make: Callable[..., Desk]) -> None:
    desk = make()
    desk.service.decision = Scripted(HttpRefusal(401, "no"), kind=TaskKind.LOGIN)
    desk.peer.send(REQUEST)
    desk.machine.step()
    desk.machine.run_job()
    desk.machine.step()
    assert desk.peer.sock.recv(4096).startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize("way", ["full", "evicted", "fault", "gone"])
def test_an_upgrade_that_cannot_be_decided_is_refused(
    make: Callable[..., Desk], monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    desk = make()
    desk.service.decision = Scripted(ValueError("a fault"), kind=TaskKind.LOGIN)
    if way == "full":
        monkeypatch.setattr(desk.machine.pool, "submit", lambda job, job_class: False)
    desk.peer.send(REQUEST)
    desk.machine.step()
    if way == "evicted":
        desk.machine.pool.jobs.pop().on_evicted()
    elif way == "fault":
        desk.machine.run_job()
    elif way == "gone":
        desk.peer.sock.close()
        desk.machine.run_job()
    desk.machine.step()
    if way != "gone":
        status = b"500" if way == "fault" else b"503"  # which would invite to repeat what may have been carried out
        assert desk.peer.sock.recv(4096).startswith(b"HTTP/1.1 %b " % status)


def test_a_client_that_does_not_log_in_is_closed(make: Callable[..., Desk]) -> None:
    desk = make()
    desk.service.check_after = 5.0
    desk.upgrade()
    desk.session.is_authorized = False
    desk.machine.advance(5.0)
    (close,) = desk.turn() or desk.peer.frames
    assert code(close) == 4401


def test_a_client_that_has_logged_in_stays(make: Callable[..., Desk]) -> None:
    desk = make()
    desk.service.check_after = 5.0
    desk.upgrade()
    desk.machine.advance(5.0)
    assert desk.turn() == []
    assert texts(desk.send(b"a")) == [b"a"]


def test_deflate_is_negotiated(make: Callable[..., Desk]) -> None:
    desk = make(deflate=True)
    desk.peer.send(REQUEST[:-2] + b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n")
    desk.machine.step()
    assert b"Sec-WebSocket-Extensions: permessage-deflate" in desk.peer.sock.recv(4096)


def test_no_answer_follows_the_answer_to_a_close_frame(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even one that a worker has ready at that very moment."""
    desk.send(Scripted(b"late", Speed.SLOW))
    closer = desk.machine.loop.handler.closer
    original = closer._send_final

    def send_final(*arguments: Any) -> bool:
        sent = original(*arguments)
        desk.machine.run_job()
        return sent

    monkeypatch.setattr(closer, "_send_final", send_final)
    desk.peer.send(client_frame(CLOSE, b"\x03\xe8"))
    assert [opcode for opcode, _ in desk.turn()] == [CLOSE]


# Rates and faults


def test_bytes_of_a_rate_limited_client_are_charged_and_may_close(desk: Desk) -> None:
    charged: list[tuple[int, int]] = []

    def charge(session: Session, size: int, frames: int) -> None:
        charged.append((size, frames))
        session.close_after = CloseStatus(1008, "too many bytes")

    desk.session.is_rate_limited = True
    desk.service.on_received = charge  # type: ignore[method-assign]
    answer, close = desk.send(b"a")
    assert charged == [(8, 1)]
    assert answer == (TEXT, b"a")
    assert code(close) == 1008


def test_each_fragment_is_charged(desk: Desk) -> None:
    charged: list[tuple[int, int]] = []
    desk.session.is_rate_limited = True
    desk.service.on_received = lambda session, *cost: charged.append(cost)  # type: ignore[method-assign]
    fragments = client_frame(TEXT, b"", fin=False) + client_frame(CONTINUATION, b"", fin=False) * 8
    desk.peer.send(fragments)
    desk.machine.step()
    assert [sum(values) for values in zip(*charged, strict=True)] == [len(fragments), 9]


def test_an_inflated_message_is_charged_for_what_it_contains(make: Callable[..., Desk]) -> None:
    desk = make(deflate=True)
    charged: list[tuple[int, int]] = []
    desk.peer.send(REQUEST[:-2] + b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n")
    desk.machine.step()
    desk.peer.read()
    desk.session.is_rate_limited = True
    desk.service.on_received = lambda session, *cost: charged.append(cost)  # type: ignore[method-assign]
    compressor = zlib.compressobj(wbits=-12)
    payload = compressor.compress(b"x" * 50_000) + compressor.flush(zlib.Z_SYNC_FLUSH)
    frame = bytearray(client_frame(TEXT, payload[:-4]))
    frame[0] |= 0x40
    desk.peer.send(bytes(frame))
    desk.machine.step()
    assert [size for size, _ in charged] == [50_000]


def test_a_client_with_many_frames_leaves_the_others_their_turn(make: Callable[..., Desk]) -> None:
    """Also if they came in one packet, so that the poller does not report the rest."""
    desk = make(frames_per_turn=2)
    desk.upgrade()
    desk.service.replies = [b"%d" % number for number in range(7)]
    desk.peer.send(client_frame(TEXT, b"m") * 7)
    counts = []
    while len(desk.peer.frames) < 7:
        desk.machine.loop.run_once(desk.machine.reactor.poller.poll(0), desk.machine.clock())
        desk.peer.read()
        counts.append(len(desk.peer.frames))
    assert counts == [4, 6, 7], "the first turn reads twice: what the poller reports, and what it does not"


def test_messages_that_take_long_leave_the_others_their_turn(make: Callable[..., Desk]) -> None:
    desk = make(turn_time=0.001)
    desk.upgrade()
    desk.service.replies = [b"%d" % number for number in range(3)]
    original = desk.service.receive

    def receive(session: Session, opcode: int, payload: bytes) -> Any:
        desk.machine.clock.now += 0.002
        return original(session, opcode, payload)

    desk.service.receive = receive  # type: ignore[method-assign]
    desk.peer.send(client_frame(TEXT, b"m") * 3)
    counts = []
    while len(desk.peer.frames) < 3:
        desk.machine.loop.run_once(desk.machine.reactor.poller.poll(0), desk.machine.clock())
        desk.peer.read()
        counts.append(len(desk.peer.frames))
    assert counts == [2, 3], "one when they arrive, and one when the commands are executed"
    assert texts(desk.peer.frames) == [b"0", b"1", b"2"]


def test_frames_behind_a_pause_are_answered_after_it(make: Callable[..., Desk]) -> None:
    desk = make(frames_per_turn=2, in_flight=1)
    desk.upgrade()
    desk.service.replies = [b"1", Scripted(b"2", Speed.SLOW), *(b"%d" % number for number in range(3, 8))]
    desk.peer.send(client_frame(TEXT, b"m") * 7)
    assert texts(desk.turn()) == [b"1"]
    desk.machine.run_job()
    assert texts(desk.turn()) == [b"%d" % number for number in range(2, 8)]


def test_bytes_without_a_message_may_close_too(desk: Desk) -> None:
    def charge(session: Session, size: int, frames: int) -> None:
        session.close_after = CloseStatus(1008, "too many bytes")

    desk.session.is_rate_limited = True
    desk.service.on_received = charge  # type: ignore[method-assign]
    desk.peer.send(client_frame(TEXT, b"part of a message", fin=False))
    (close,) = desk.turn()
    assert code(close) == 1008


def test_what_arrives_together_with_the_excess_is_answered(desk: Desk) -> None:
    desk.session.close_after = CloseStatus(1008, "enough")
    desk.service.replies = [b"a", b"b"]
    desk.peer.send(client_frame(TEXT, b"1") + client_frame(TEXT, b"2") + client_frame(PING, b"p"))
    assert texts(desk.turn()[:3]) == [b"a", b"b", b"p"]
    assert code(desk.peer.frames[-1]) == 1008


def test_the_end_of_the_loop_cancels_futures(make: Callable[..., Desk]) -> None:
    desk, future, called = make(), Future[bytes](), []
    desk.upgrade()
    task = Scripted(future, Speed.DECLARED_FAST)
    task.hooks = [called.append]
    desk.send(task)
    desk.machine.mailbox.post(lambda leader: desk.machine.loop.end())
    desk.machine.step()
    assert future.cancelled()
    assert called == [False]


def test_after_our_close_frame_messages_are_discarded(desk: Desk) -> None:
    desk.machine.registry.close(desk.machine.registry.all()[0].id, CloseStatus(4000, "enough"))
    desk.machine.step()
    desk.peer.send(client_frame(TEXT, b"late") + client_frame(CLOSE, struct.pack("!H", 4000)))
    desk.turn()
    assert [code(frame) for frame in desk.peer.frames] == [4000]
    assert desk.peer.at_end


def test_a_protocol_error_after_our_close_frame_ends_it(desk: Desk) -> None:
    desk.machine.registry.close(desk.machine.registry.all()[0].id, CloseStatus(4000, "enough"))
    desk.machine.step()
    desk.peer.send(b"\x83\x80abcd")
    desk.turn()
    desk.machine.advance(desk.machine.reactor.limits.connections.linger_timeout + 0.1)
    assert desk.machine.registry.all() == []


def test_a_serial_call_past_its_deadline_closes(desk: Desk) -> None:
    desk.send(Scripted(b"login", is_serial=True), b"after")
    desk.machine.pool.jobs.clear()
    desk.machine.advance(desk.machine.reactor.limits.calls.call_timeout)
    answer, close = desk.turn() or desk.peer.frames
    assert answer[1] == b"expired"
    assert code(close) == 1011


def test_a_fault_in_any_handler_closes_one_connection(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    (connection,) = desk.machine.registry.all()
    keepalive: Any = desk.machine.loop.handler._keepalive
    monkeypatch.setattr(
        type(keepalive), "on_timer", lambda self, connection, at: (_ for _ in ()).throw(ZeroDivisionError)
    )
    desk.machine.loop.handler.on_timer(connection, 0.0)
    (close,) = desk.turn()
    assert code(close) == 1011


def test_a_command_that_fails_is_logged_and_the_next_ones_run(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    ran: list[int] = []
    desk.machine.mailbox.post(lambda leader: [0].remove(1))
    desk.machine.mailbox.post(lambda leader: ran.append(1))
    desk.machine.step()
    assert ran == [1]
    assert "a command to the loop failed" in caplog.text


def test_a_connection_that_comes_while_the_server_stops_is_refused(desk: Desk) -> None:
    desk.machine.mailbox.post(lambda leader: leader.closer.start_shutdown())
    desk.machine.step()
    sock = desk.machine.accept()
    desk.machine.step()
    with sock:
        assert sock.recv(4096).startswith(b"HTTP/1.1 503 ")


def test_a_deferred_message_that_fails_closes(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.send(Scripted(b"login", is_serial=True), b"after")
    monkeypatch.setattr(desk.service, "receive", lambda *args: (_ for _ in ()).throw(ZeroDivisionError))
    answer, close = desk.finish()
    assert answer[1] == b"login"
    assert code(close) == 1011


# Clients that disconnect


def test_a_reset_ends_the_connection(desk: Desk) -> None:
    desk.machine.registry.broadcast(encode_message("unread"))
    desk.peer.sock.close()  # with unread data: the server's next read fails
    desk.machine.step()
    assert desk.machine.registry.all() == []
    assert desk.service.closed[0][1].code == 1006


def test_a_client_that_disconnects_with_an_unsent_answer_is_dropped(desk: Desk) -> None:
    desk.service.replies = [b"x" * 200_000]
    desk.peer.send(client_frame(TEXT, b"m"))
    desk.machine.step()
    desk.peer.sock.close()
    desk.machine.step()
    assert desk.machine.registry.all() == []


def test_a_broadcast_to_a_client_that_has_disconnected_drops_it(desk: Desk) -> None:
    desk.peer.sock.close()
    desk.machine.registry.broadcast(encode_message("x"))
    desk.machine.send_broadcasts()
    assert desk.machine.registry.all() == []


def test_a_close_waits_for_what_is_unsent(desk: Desk) -> None:
    desk.service.replies = [b"x" * 200_000]
    desk.peer.send(client_frame(TEXT, b"m"))
    desk.machine.step()
    desk.machine.registry.close(desk.machine.registry.all()[0].id, CloseStatus(4000, "enough"))
    for _ in range(100):
        desk.turn()
    assert [opcode for opcode, _ in desk.peer.frames] == [TEXT, CLOSE]
    desk.peer.send(client_frame(CLOSE, struct.pack("!H", 4000)))
    desk.turn()
    desk.peer.sock.close()
    desk.machine.step()
    assert desk.machine.registry.all() == []


def test_an_answer_to_a_close_past_its_deadline_ends_the_wait(desk: Desk) -> None:
    desk.send(Scripted(b"slow"))
    desk.peer.send(client_frame(CLOSE, struct.pack("!H", 1000)))
    desk.turn()
    desk.machine.advance(desk.machine.reactor.limits.connections.close_timeout + 0.1)
    desk.turn()
    assert code(desk.peer.frames[-1]) == 1000

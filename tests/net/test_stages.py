"""The stages before messages: PROXY header, TLS handshake, HTTP requests; without threads."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from dilithion_ws import CloseStatus, Session
from dilithion_ws.net.interfaces import Accepted, Admission
from dilithion_ws.net.poller import READ, WRITE
from dilithion_ws.protocol.frames import TEXT
from dilithion_ws.protocol.http import HttpResponse
from dilithion_ws.util.enums import Speed, TaskKind

from ..support import REQUEST, client_frame
from ..support.certificates import Authority
from ..support.net import Machine
from ..support.proxy_headers import version_1, version_2

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
SLOW = b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n"
PROXIES = {"trusted_proxies": ("10.0.0.0/8",)}


@pytest.fixture
def make() -> Iterator[Callable[..., Machine]]:
    machines: list[Machine] = []

    def make(**options: Any) -> Machine:
        machines.append(Machine(**options))
        return machines[-1]

    yield make
    for machine in machines:
        machine.close()


def received(sock: socket.socket) -> bytes:
    """Return what there is to read; b"(end)" marks the end of the stream."""
    data = b""
    try:
        while more := sock.recv(1 << 16):
            data += more
        return data + b"(end)"
    except BlockingIOError:
        return data
    except ConnectionResetError:
        return data + b"(end)"


class HttpTask:
    """The task of a request, whose outcome the test chooses."""

    speed = Speed.SLOW
    is_serial = True
    kind = TaskKind.REQUEST
    session = Session(1, ("127.0.0.1", 1))
    hooks = None
    timeout = None

    def __init__(self, *outcomes: Any) -> None:
        self.outcomes = list(outcomes)

    def run(self) -> Any:
        outcome = self.outcomes.pop(0)
        if outcome is ValueError:
            raise outcome("a fault")
        return outcome

    def refuse(self, reason: str) -> HttpResponse:
        return HttpResponse(503, reason.encode())

    def expire(self) -> HttpResponse:
        return HttpResponse(504, b"too late")

    def on_stall(self) -> None: ...


# PROXY protocol


@pytest.mark.parametrize("header", [version_1("192.0.2.7", 5), version_2("192.0.2.7", 5)])
@pytest.mark.parametrize("step", [1, 1000])
def test_the_client_of_a_proxy_is_the_one_in_its_header(make: Callable[..., Machine], header: bytes, step: int) -> None:
    machine = make(proxy_protocol=True, **PROXIES)
    with machine.accept("10.0.0.1") as sock:
        machine.step()
        data = header + GET
        for at in range(0, len(data), step):
            sock.send(data[at : at + step])
            machine.step()
        assert received(sock).endswith(b"hello 192.0.2.7")


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", b"PROXY nonsense\r\n", b""])
def test_a_proxy_without_a_header_is_dropped(make: Callable[..., Machine], data: bytes) -> None:
    machine = make(proxy_protocol=True, **PROXIES)
    with machine.accept("10.0.0.1") as sock:
        machine.step()
        sock.send(data) if data else sock.shutdown(socket.SHUT_WR)
        machine.step()
        assert received(sock) == b"(end)"
    assert machine.limiter.total == 0


def test_a_client_for_which_there_is_no_room_is_refused_after_the_header(make: Callable[..., Machine]) -> None:
    machine = make(proxy_protocol=True, connections_per_address=1, **PROXIES)
    with machine.accept("10.0.0.1") as first, machine.accept("10.0.0.1") as second:
        machine.step()
        for sock in (first, second):
            sock.send(version_1("192.0.2.7", 5) + GET)
            machine.step()
        assert received(first).startswith(b"HTTP/1.1 200 ")
        assert received(second).startswith(b"HTTP/1.1 503 ")


@pytest.mark.parametrize(
    ("header", "status"), [(b"192.0.2.8", b"200"), (b"192.0.2.8, 10.0.0.3", b"200"), (b"unknown", b"400")]
)
@pytest.mark.parametrize("request_line", [b"GET / HTTP/1.1", b"upgrade"])
def test_x_forwarded_for_names_the_client(
    make: Callable[..., Machine], header: bytes, status: bytes, request_line: bytes
) -> None:
    machine = make(**PROXIES)
    with machine.accept("10.0.0.1") as sock:
        machine.step()
        request = GET if request_line != b"upgrade" else REQUEST
        sock.send(request[:-2] + b"X-Forwarded-For: " + header + b"\r\n\r\n")
        machine.step()
        answer = received(sock)
        expected = b"101" if request_line == b"upgrade" and status == b"200" else status
        assert answer.startswith(b"HTTP/1.1 " + expected)
        if status == b"200":
            assert machine.registry.all()[0].address[0] in ("192.0.2.8", "10.0.0.1")


# TLS


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def secure(make: Callable[..., Machine], authority: Authority) -> Machine:
    machine: Machine = make(certificate=str(authority.certificate), private_key=str(authority.key))
    return machine


class TlsClient:
    """A TLS client whose bytes the test moves."""

    def __init__(self, machine: Machine, authority: Authority) -> None:
        self.machine = machine
        self.sock = machine.accept()
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = authority.context().wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")
        machine.step()

    def exchange(self) -> None:
        """Send what TLS wants to send, let the server work, and take what it answers."""
        self.sock.send(self.outgoing.read() or b"")
        self.machine.step()
        while self.machine.pool.jobs:
            self.machine.run_job()
            self.machine.step()
        self.incoming.write(received(self.sock).removesuffix(b"(end)"))

    def shake_hands(self) -> None:
        for _ in range(5):
            try:
                self.tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self.exchange()
        self.exchange()

    def send(self, data: bytes) -> None:
        self.tls.write(data)
        self.exchange()

    def read(self) -> bytes:
        data = b""
        try:
            while more := self.tls.read(1 << 16):
                data += more
        except ssl.SSLWantReadError:
            pass
        return data


def test_messages_pass_over_tls(secure: Machine, authority: Authority) -> None:
    client = TlsClient(secure, authority)
    with client.sock:
        client.shake_hands()
        client.send(REQUEST + client_frame(TEXT, b"echo 1"))
        assert client.read().endswith(b"\r\n\r\n\x81\x06echo 1")
        client.send(client_frame(TEXT, b"echo 2") + client_frame(TEXT, b"echo " + b"x" * 3000))
        assert client.read().startswith(b"\x81\x06echo 2")


def test_plain_http_on_a_tls_port_gets_an_answer_that_says_so(secure: Machine) -> None:
    with secure.accept() as sock:
        secure.step()
        sock.send(GET)
        secure.step()
        assert b"this port speaks TLS" in received(sock)


def test_lines_about_failed_handshakes_are_limited(
    make: Callable[..., Machine], authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    machine = make(certificate=str(authority.certificate), private_key=str(authority.key), audit_burst=3)
    with caplog.at_level("INFO", "dilithion_ws.net"):
        for _ in range(8):
            with machine.accept() as sock:
                machine.step()
                sock.send(b"\x16\x03\x01\x00\x05hello")
                for _ in range(3):
                    machine.step()
                    while machine.pool.jobs:
                        machine.run_job()
                machine.step()
    assert machine.limiter.total == 0
    assert len([record for record in caplog.records if "TLS failed" in record.getMessage()]) == 3


@pytest.mark.parametrize("data", [b"", b"\x16", b"\x16\x03\x01\x00\x05hello"])
def test_a_broken_handshake_ends_the_connection(secure: Machine, data: bytes) -> None:
    with secure.accept() as sock:
        secure.step()
        if data:
            sock.send(data)
        else:
            sock.shutdown(socket.SHUT_WR)
        secure.step()
        for _ in range(3):
            while secure.pool.jobs:
                secure.run_job()
            secure.step()
        secure.advance(secure.reactor.limits.connections.handshake_timeout + 0.1)
        secure.advance(secure.reactor.limits.connections.linger_timeout + 0.1)
        assert received(sock).endswith(b"(end)")
    assert secure.limiter.total == 0


def test_a_connection_that_is_dropped_before_its_step_needs_none(secure: Machine, authority: Authority) -> None:
    client = TlsClient(secure, authority)
    with client.sock:
        with pytest.raises(ssl.SSLWantReadError):
            client.tls.do_handshake()
        client.sock.send(client.outgoing.read())
        secure.step()
        assert len(secure.pool.jobs) == 1
        secure.advance(secure.reactor.limits.connections.handshake_timeout + 0.1)
        secure.run_job()
        secure.step()
    assert secure.limiter.total == 0


# HTTP


def test_requests_are_answered_one_after_the_other(make: Callable[..., Machine]) -> None:
    machine = make()
    with machine.accept() as sock:
        machine.step()
        sock.send(GET * 3)
        machine.step()
        assert received(sock).count(b"HTTP/1.1 200 OK") == 3


@pytest.mark.parametrize(
    ("outcomes", "status"),
    [
        ([HttpResponse(200, b"done")], b"200"),
        ([HttpTask(HttpResponse(201, b"done"))], b"201"),
        ([ValueError], b"500"),
    ],
)
def test_a_request_may_need_a_task(make: Callable[..., Machine], outcomes: list[Any], status: bytes) -> None:
    machine = make()
    machine.service.http_task = HttpTask(*outcomes)
    with machine.accept() as sock:
        machine.step()
        sock.send(SLOW + GET)
        machine.step()
        assert received(sock) == b""
        while machine.pool.jobs:
            machine.run_job()
            machine.step()
        answers = received(sock)
        assert answers.startswith(b"HTTP/1.1 " + status)
        assert answers.endswith(b"hello 127.0.0.1")


def test_the_answer_of_a_request_may_come_later(make: Callable[..., Machine]) -> None:
    machine, future = make(), Future[HttpResponse]()
    machine.service.http_task = HttpTask(future)
    with machine.accept() as sock:
        machine.step()
        sock.send(SLOW)
        machine.step()
        machine.run_job()
        machine.step()
        assert received(sock) == b""
        future.set_result(HttpResponse(200, b"later"))
        machine.step()
        assert received(sock).endswith(b"later")


def test_a_request_past_its_deadline_is_answered_and_its_future_cancelled(make: Callable[..., Machine]) -> None:
    machine, future = make(), Future[HttpResponse]()
    machine.service.http_task = HttpTask(future)
    with machine.accept() as sock:
        machine.step()
        sock.send(SLOW)
        machine.step()
        machine.run_job()
        machine.step()
        machine.advance(machine.reactor.limits.calls.call_timeout)
        answer = received(sock)
        assert answer.startswith(b"HTTP/1.1 504 ")
        assert b"Connection: close" in answer
        assert future.cancelled()


def test_an_idle_connection_is_closed_without_a_response(make: Callable[..., Machine]) -> None:
    machine = make()
    limits = machine.reactor.limits.connections
    with machine.accept() as sock:
        machine.step()
        sock.send(GET)
        machine.step()
        assert b"\r\nKeep-Alive: timeout=75\r\n" in received(sock)
        machine.advance(limits.keep_alive_timeout - 0.1)
        assert received(sock) == b""
        machine.advance(0.2)
        machine.advance(limits.linger_timeout + 0.1)
        assert received(sock) == b"(end)"


def test_the_next_request_has_the_time_of_the_first_one(make: Callable[..., Machine]) -> None:
    machine = make()
    limits = machine.reactor.limits.connections
    with machine.accept() as sock:
        machine.step()
        sock.send(GET)
        machine.step()
        received(sock)
        machine.advance(limits.keep_alive_timeout - 0.1)
        sock.send(GET[:10])
        machine.step()
        machine.advance(limits.handshake_timeout - 0.1)
        assert received(sock) == b""
        machine.advance(0.2)
        assert received(sock).startswith(b"HTTP/1.1 408 ")


def test_a_client_that_wants_the_end_is_announced_no_time(make: Callable[..., Machine]) -> None:
    machine = make()
    with machine.accept() as sock:
        machine.step()
        sock.send(GET[:-2] + b"Connection: close\r\n\r\n")
        machine.step()
        answer = received(sock)
    assert b"Connection: close" in answer
    assert b"Keep-Alive" not in answer


def test_a_stopping_server_closes_after_the_response(make: Callable[..., Machine]) -> None:
    machine = make()
    with machine.accept() as sock:
        machine.step()
        machine.service.http_task = HttpTask(HttpResponse(200, b"done"))
        sock.send(SLOW)
        machine.step()
        machine.mailbox.post(lambda leader: leader.closer.start_shutdown())
        machine.step()
        while machine.pool.jobs:
            machine.run_job()
        machine.step()
        machine.advance(5)
        assert received(sock).endswith(b"(end)")
    assert machine.registry.all() == []


def test_an_accepted_socket_sends_at_once_and_never_blocks(make: Callable[..., Machine]) -> None:
    machine = make()
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()):
        ours, address = listener.accept()
        assert machine.limiter.acquire(address[0]) is None
        machine.mailbox.post(lambda leader: leader.on_accepted(ours, address))
        machine.step()
        assert ours.getblocking() is False
        assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_frames_behind_a_request_and_an_upgrade_are_answered(make: Callable[..., Machine]) -> None:
    machine = make()
    with machine.accept() as sock:
        machine.step()
        sock.send(GET + REQUEST + client_frame(TEXT, b"echo 1"))
        machine.step()
        assert received(sock).endswith(b"\x81\x06echo 1")


def test_an_expectation_is_answered_with_100(make: Callable[..., Machine]) -> None:
    machine = make()
    with machine.accept() as sock:
        machine.step()
        sock.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        machine.step()
        assert received(sock).startswith(b"HTTP/1.1 100 ")
        sock.send(b"ab")
        machine.step()
        assert received(sock).startswith(b"HTTP/1.1 200 ")


def test_clients_that_have_yet_to_log_in_are_served_a_few_in_a_turn(make: Callable[..., Machine]) -> None:
    machine = make(unauthenticated_per_turn=2)
    socks = [machine.accept() for _ in range(5)]
    machine.step()
    for sock in socks:
        sock.send(GET)
    answered = []
    while len(answered) < 5:
        machine.loop.run_once(machine.reactor.poller.poll(0), machine.clock())
        before = len(answered)
        answered += [at for at, sock in enumerate(socks) if at not in answered and received(sock)]
        assert len(answered) - before <= 2
    assert sorted(answered) == [0, 1, 2, 3, 4]
    for sock in socks:
        sock.close()


def test_who_has_logged_in_goes_first_and_the_others_in_the_order_in_which_they_were_ready(
    make: Callable[..., Machine],
) -> None:
    machine = make(unauthenticated_per_turn=1)
    socks = [machine.accept() for _ in range(4)]
    machine.step()
    connections = machine.registry.all()
    socks[3].send(REQUEST)
    machine.step()
    assert connections[3].is_admitted
    received(socks[3])
    for sock in socks[:3]:
        sock.send(GET)
    socks[3].send(client_frame(TEXT, b"echo 1"))
    ready = [(connections[at].fd, READ) for at in (2, 0, 1, 3)]
    order = []
    while len(order) < 4:
        machine.loop.run_once(ready, machine.clock())
        ready = []
        order += sorted((at for at in range(4) if at not in order and received(socks[at])), key=lambda at: at != 3)
    assert order == [3, 2, 0, 1]
    for sock in socks:
        sock.close()


def test_nothing_is_read_behind_a_response_that_is_not_sent_yet(make: Callable[..., Machine]) -> None:
    machine, body = make(), b"x" * 60_000
    with machine.accept() as sock:
        machine.step()
        sock.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n")
        machine.step()
        for at in range(0, len(body), 2000):
            sock.send(body[at : at + 2000])
            machine.step()
        (connection,) = machine.registry.all()
        assert connection.write_buffer is not None
        assert not connection.interest & READ
        sock.send(GET)
        answers = b""
        while more := received(sock):
            answers += more
            machine.step()
        assert answers.count(b"HTTP/1.1 200 ") == 2


def test_a_100_that_was_buffered_is_no_response(make: Callable[..., Machine]) -> None:
    machine = make()
    with machine.accept() as sock:
        machine.step()
        sock.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        machine.step()
        (connection,) = machine.registry.all()
        machine.loop.handler.handshake.on_written(connection)  # as after the buffer was flushed
        sock.send(b"ab")
        machine.step()
        assert received(sock).endswith(b"hello 127.0.0.1ab")


def test_a_body_that_came_with_its_head_is_charged(make: Callable[..., Machine]) -> None:
    machine, charged = make(), []
    session = Session(1, ("192.0.2.1", 1))
    session.is_rate_limited = True
    machine.service.on_received = lambda session, *cost: charged.append(cost)  # type: ignore[method-assign]
    machine.service.decision_at_head = Admission(session, "/")
    with machine.accept() as sock:
        machine.step()
        sock.send(b"POST /decided HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n" + b"x" * 1000)
        machine.step()
        assert charged == [(1000, 1)]


def test_a_client_that_waits_for_its_turn_is_ready_for_all_that_was_reported(
    make: Callable[..., Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = make(unauthenticated_per_turn=1)
    with machine.accept(), machine.accept():
        machine.step()
        first, second = machine.registry.all()
        served: list[tuple[int, int]] = []
        monkeypatch.setattr(
            machine.loop.handler, "on_ready", lambda connection, mask: served.append((connection.id, mask))
        )
        for connection in (first, second):
            connection.interest = READ | WRITE
        machine.loop.run_once([(first.fd, READ), (second.fd, READ)], machine.clock())
        machine.loop.run_once([(second.fd, WRITE)], machine.clock())
        assert served == [(first.id, READ), (second.id, READ | WRITE)]
        for connection in (first, second):
            connection.interest = READ


@pytest.mark.parametrize("is_upgraded", [False, True])
def test_a_client_that_has_yet_to_log_in_gives_way_to_another(
    make: Callable[..., Machine], monkeypatch: pytest.MonkeyPatch, is_upgraded: bool
) -> None:
    machine = make(unauthenticated_connections=1)

    def upgrade(connection_id: int, address: Any, request: Any, certificate: bytes = b"") -> Accepted:
        session = Session(connection_id, address)
        session.is_authorized = False
        return Accepted(session, (), 3600.0)

    monkeypatch.setattr(machine.service, "upgrade", upgrade)
    with machine.accept() as first:
        machine.step()
        first.send(REQUEST if is_upgraded else GET[:10])
        machine.step()
        received(first)
        machine.advance(machine.reactor.limits.connections.handshake_timeout / 10 + 0.1)
        with machine.accept() as second:
            machine.step()
            answer = received(first)
            assert answer.startswith(b"\x88" if is_upgraded else b"HTTP/1.1 503 ")
            assert b"rpcwebsocketunauthenticatedconnections" in answer
            assert not is_upgraded or answer[2:4] == (1013).to_bytes(2, "big")
            second.send(GET)
            machine.step()
            assert received(second).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("expectation", [b"", b"Expect: 100-continue\r\n"])
def test_a_request_that_is_refused_at_its_head_needs_no_body(make: Callable[..., Machine], expectation: bytes) -> None:
    machine = make()
    machine.service.decision_at_head = HttpResponse(401, b"no")
    with machine.accept() as sock:
        machine.step()
        sock.send(b"POST /decided HTTP/1.1\r\nHost: a\r\n" + expectation + b"Content-Length: 1000\r\n\r\n")
        machine.step()
        answer = received(sock)
        assert answer.startswith(b"HTTP/1.1 401 ")
        assert answer.endswith(b"no(end)")


def test_a_password_is_verified_before_the_body_is_read(make: Callable[..., Machine]) -> None:
    machine = make()
    machine.service.decision_at_head = HttpTask(Admission(HttpTask.session, "/"))
    with machine.accept() as sock:
        machine.step()
        sock.send(b"POST /decided HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        machine.step()
        assert received(sock) == b""
        machine.run_job()
        machine.step()
        assert received(sock).startswith(b"HTTP/1.1 100 ")
        sock.send(b"ab")
        machine.step()
        assert received(sock).endswith(b"hello 127.0.0.1ab")


def test_a_body_has_time_in_proportion_to_what_has_arrived(make: Callable[..., Machine]) -> None:
    machine = make(body_rate=100.0)
    limits = machine.reactor.limits.connections
    with machine.accept() as sock:
        machine.step()
        sock.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3000\r\n\r\n")
        machine.step()
        for _ in range(2):
            machine.advance(limits.handshake_timeout - 1)
            sock.send(b"x" * 1000)
            machine.step()
            assert received(sock) == b""
        machine.advance(limits.handshake_timeout + 0.1)
        answer = received(sock)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"rpcwebsocketbodyrate" in answer


def test_a_body_of_a_rate_limited_client_is_charged_by_chunk(make: Callable[..., Machine]) -> None:
    machine = make(frames_per_turn=32)
    charged: list[tuple[int, int]] = []
    session = Session(1, ("192.0.2.1", 1))
    session.is_rate_limited = True

    def charge(session: Session, size: int, frames: int) -> None:
        charged.append((size, frames))
        if len(charged) == 3:
            session.close_after = CloseStatus(1008, "too many bytes")

    machine.service.on_received = charge  # type: ignore[method-assign]
    machine.service.decision_at_head = Admission(session, "/")
    with machine.accept() as sock:
        machine.step()
        sock.send(b"POST /decided HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        machine.step()
        sock.send(b"1\r\nx\r\n" * 20)
        machine.step()
        assert charged == [(0, 0), (4, 4), (4, 4)]
        assert received(sock).startswith(b"HTTP/1.1 429 ")


# Stopping in each stage


@pytest.mark.parametrize("stage", ["proxy", "tls", "http"])
def test_a_server_that_stops_ends_connections_in_every_stage(
    make: Callable[..., Machine], authority: Authority, stage: str
) -> None:
    options: dict[str, Any] = {}
    if stage == "proxy":
        options = {"proxy_protocol": True, **PROXIES}
    elif stage == "tls":
        options = {"certificate": str(authority.certificate), "private_key": str(authority.key)}
    machine = make(**options)
    with machine.accept("10.0.0.1") as sock:
        machine.step()
        machine.mailbox.post(lambda leader: leader.closer.start_shutdown())
        machine.step()
        machine.advance(machine.reactor.limits.connections.linger_timeout + 0.1)
        assert received(sock).endswith(b"(end)")
    assert machine.registry.all() == []


def test_a_socket_that_cannot_be_wrapped_is_dropped(
    secure: Machine, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        ssl.SSLContext, "wrap_socket", lambda *args, **options: (_ for _ in ()).throw(OSError("disconnected"))
    )
    with secure.accept() as sock:
        secure.step()
        sock.send(b"\x16\x03\x01")
        secure.step()
        assert received(sock) == b"(end)"
    assert secure.limiter.total == 0


def test_a_client_that_disconnects_before_tls_is_dropped(secure: Machine) -> None:
    secure.accept().close()
    secure.step()
    assert secure.limiter.total == 0


# Ends in unusual moments


def test_a_request_is_refused_if_the_queue_is_full(
    make: Callable[..., Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = make()
    machine.service.http_task = HttpTask(HttpResponse(200, b"done"))
    monkeypatch.setattr(machine.pool, "submit", lambda job, job_class: False)
    with machine.accept() as sock:
        machine.step()
        sock.send(SLOW)
        machine.step()
        assert received(sock).startswith(b"HTTP/1.1 503 ")


@pytest.mark.parametrize("is_reset", [False, True])
def test_a_client_that_disconnects_before_its_response_is_dropped(make: Callable[..., Machine], is_reset: bool) -> None:
    machine = make()
    machine.service.http_task = HttpTask(HttpResponse(200, b"done"))
    sock = machine.accept()
    machine.step()
    sock.send(SLOW)
    machine.step()
    if is_reset:
        sock.send(b"unread")
    sock.close()
    while machine.pool.jobs:
        machine.run_job()
    machine.step()
    machine.advance(machine.reactor.limits.connections.handshake_timeout + 60)
    machine.advance(machine.reactor.limits.connections.linger_timeout + 1)
    assert machine.registry.all() == []


def test_a_task_that_ends_after_its_deadline_changes_nothing(make: Callable[..., Machine]) -> None:
    machine = make()
    machine.service.http_task = HttpTask(HttpResponse(200, b"done"))
    with machine.accept() as sock:
        machine.step()
        sock.send(SLOW)
        machine.step()
        machine.advance(machine.reactor.limits.calls.call_timeout + 60)
        answer = received(sock)
        assert answer.startswith(b"HTTP/1.1 ")
        while machine.pool.jobs:
            machine.run_job()
        machine.step()
        assert b"done" not in answer + received(sock)


def test_a_close_before_the_upgrade_is_a_503(make: Callable[..., Machine]) -> None:
    machine = make()
    with machine.accept() as sock:
        machine.step()
        (connection,) = machine.registry.all()
        machine.mailbox.post(lambda leader: leader.closer.start_close(connection, CloseStatus(1001, "restarting")))
        machine.step()
        answer = received(sock)
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"restarting" in answer


@pytest.mark.parametrize("method", ["start_close", "fail"])
def test_a_connection_in_its_tls_handshake_is_ended_without_a_word(secure: Machine, method: str) -> None:
    with secure.accept() as sock:
        secure.step()
        (connection,) = secure.registry.all()
        argument: Any = CloseStatus(1001, "") if method == "start_close" else b""
        secure.mailbox.post(lambda leader: getattr(leader.closer, method)(connection, argument))
        secure.step()
        assert received(sock) == b"(end)"


def test_a_second_end_of_a_connection_does_nothing(make: Callable[..., Machine]) -> None:
    machine = make()
    with machine.accept() as sock:
        machine.step()
        (connection,) = machine.registry.all()
        for _ in range(2):
            machine.mailbox.post(lambda leader: leader.closer.fail(connection, b""))
        machine.step()
        for _ in range(2):
            machine.mailbox.post(lambda leader: leader.closer.abort(connection))
        machine.step()
        assert received(sock) == b"(end)"
    assert machine.registry.all() == []


def test_a_client_that_accepts_no_response_is_dropped(make: Callable[..., Machine]) -> None:
    machine = make()
    machine.service.http_task = HttpResponse(200, b"x" * 1_000_000)
    with machine.accept() as sock:
        machine.step()
        sock.send(SLOW)
        machine.step()
        machine.advance(machine.reactor.limits.connections.write_stall + 1)
        assert machine.registry.all() == []


def test_a_large_message_over_tls_arrives_in_pieces(secure: Machine, authority: Authority) -> None:
    client = TlsClient(secure, authority)
    with client.sock:
        client.shake_hands()
        client.send(REQUEST)
        client.read()
        text = b"echo " + b"y" * 300_000
        client.tls.write(client_frame(TEXT, text))
        data = client.outgoing.read()
        for at in range(0, len(data), 50_000):
            client.sock.setblocking(True)
            client.sock.send(data[at : at + 50_000])
            client.sock.setblocking(False)
            secure.step()
            client.incoming.write(received(client.sock))
        for _ in range(100):
            secure.step()
            client.incoming.write(received(client.sock))
        assert client.read().endswith(b"y" * 300_000)


def test_a_reset_over_tls_ends_the_connection(secure: Machine, authority: Authority) -> None:
    client = TlsClient(secure, authority)
    client.shake_hands()
    client.send(REQUEST)
    client.sock.close()
    secure.step()
    assert secure.registry.all() == []


def test_a_garbled_record_ends_the_connection(secure: Machine, authority: Authority) -> None:
    client = TlsClient(secure, authority)
    with client.sock:
        client.shake_hands()
        client.send(REQUEST)
        client.sock.send(b"\x17\x03\x03\x00\x05hello")
        secure.step()
        secure.advance(secure.reactor.limits.connections.linger_timeout + 1)
        assert secure.registry.all() == []


@pytest.mark.parametrize("method", ["on_request_done", "receive"])
def test_a_fault_while_a_response_is_sent_ends_one_connection(
    make: Callable[..., Machine], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, method: str
) -> None:
    def fail(*arguments: object) -> None:
        raise ZeroDivisionError

    machine = make()
    machine.service.http_task = HttpTask(HttpResponse(200, b"done"))
    with machine.accept() as sock, machine.accept() as other:
        machine.step()
        monkeypatch.setattr(machine.loop.handler.handshake, method, fail)
        sock.send(SLOW + GET)
        machine.step()
        while machine.pool.jobs:
            machine.run_job()
        machine.step()
        monkeypatch.undo()
        other.send(GET)
        machine.step()
        assert received(other).endswith(b"hello 127.0.0.1")
        machine.advance(machine.reactor.limits.connections.linger_timeout + 1)
        assert received(sock).endswith(b"(end)")
    assert "ZeroDivisionError" in caplog.text


def test_a_reset_while_a_response_is_buffered_ends_the_connection(make: Callable[..., Machine]) -> None:
    machine = make()
    machine.service.http_task = HttpResponse(200, b"x" * 1_000_000)
    sock = machine.accept()
    machine.step()
    sock.send(SLOW)
    machine.step()
    sock.close()
    machine.step()
    assert machine.registry.all() == []


def test_a_response_that_was_buffered_is_followed_by_the_next(make: Callable[..., Machine]) -> None:
    machine = make()
    machine.service.http_task = HttpResponse(200, b"x" * 1_000_000)
    with machine.accept() as sock:
        machine.step()
        sock.send(SLOW + GET)
        data = b""
        for _ in range(200):
            machine.step()
            data += received(sock)
        assert data.endswith(b"hello 127.0.0.1")

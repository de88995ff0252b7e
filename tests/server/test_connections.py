"""What a host sees and does of connections, and what clients may do to them."""

from __future__ import annotations

import gc
import itertools
import json
import resource
import socket
import threading
from typing import Any

import pytest

from dilithion_ws import ConnectionNotFoundError, OutboxFullError, RpcTable, Session, WebSocketServer
from dilithion_ws.net.pending_call import PendingCall
from dilithion_ws.protocol.frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, close_payload
from dilithion_ws.protocol.http_connection import HttpConnection
from dilithion_ws.protocol.message_parser import MessageParser
from dilithion_ws.service.rpc_service import RpcService

from ..support import REQUEST, TEST_TIMEOUT, RawClient, client_frame, wait_for
from ..support.fixtures import ClientFactory, ServerFactory

# The host's side


def test_send_broadcast_and_close(start: ServerFactory, connect: ClientFactory) -> None:
    server = start()
    clients = [connect(server) for _ in range(5)]
    wait_for(lambda: server.connection_count == 5)
    infos = sorted(server.connections(), key=lambda info: info.id)
    assert [info.address for info in infos] == [client.sock.getsockname() for client in clients]
    assert all(info.seconds >= 0 and info.in_flight == info.unsent_bytes == 0 and info.user is None for info in infos)
    server.send(infos[2].id, "für dich")
    assert clients[2].frame() == (TEXT, "für dich".encode())
    assert server.broadcast(b"\x00\xff") == 5
    assert [client.frame() for client in clients] == [(BINARY, b"\x00\xff")] * 5
    server.close_connection(infos[0].id, 4001, "because")
    assert clients[0].close_frame() == (4001, "because")
    clients[0].send(client_frame(CLOSE, close_payload(4001)))
    assert clients[0].at_end()
    wait_for(lambda: server.connection_count == 4)
    with pytest.raises(ConnectionNotFoundError):
        server.send(infos[0].id, "x")
    with pytest.raises(ConnectionNotFoundError):
        server.close_connection(infos[0].id)
    assert server.broadcast("rest") == 4


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 2999, 5000])
def test_codes_that_may_not_be_sent(start: ServerFactory, code: int) -> None:
    with pytest.raises(ValueError, match=str(code)):
        start().close_connection(1, code)


def test_messages_are_text_or_bytes(start: ServerFactory) -> None:
    with pytest.raises(TypeError, match="str or bytes, not int"):
        start().broadcast(5)  # type: ignore[arg-type]


def test_callbacks_in_order_with_code_and_reason(start: ServerFactory, connect: ClientFactory) -> None:
    events: list[Any] = []

    def on_connect(session: Session) -> None:
        events.append(("connect", session.connection_id))
        raise ValueError("a callback may fail")

    server = start(
        on_connect=on_connect, on_disconnect=lambda s, code, reason: events.append((s.connection_id, code, reason))
    )
    client = connect(server)
    client.send(client_frame(CLOSE, close_payload(1000, "bye")))
    assert client.close_frame() == (1000, "")
    client.close()
    wait_for(lambda: len(events) == 2)
    assert [event[1:] if event[0] != "connect" else event[:1] for event in events] == [("connect",), (1000, "bye")]
    connect(server).close()
    wait_for(lambda: len(events) == 4)
    assert events[3][1:] == (1006, "")


def test_a_callback_that_blocks_holds_up_no_client(
    start: ServerFactory, connect: ClientFactory, gate: threading.Event
) -> None:
    server = start(on_connect=lambda session: gate.wait(30), callback_backlog=3)
    for _ in range(8):
        client = connect(server)
        assert client.call("getblockcount")["result"] == 840000
    assert server.stop(0.5)


def test_raw_messages_are_answered_or_left_to_rpc(start: ServerFactory, connect: ClientFactory) -> None:
    def on_message(session: Session, message: str | bytes) -> Any:
        if message == "raise":
            raise KeyError
        if message == "nothing":
            return None
        return NotImplemented if isinstance(message, str) and message.startswith("{") else message

    client = connect(start(on_message=on_message))
    client.send(client_frame(BINARY, b"\xff\x00"))
    assert client.frame() == (BINARY, b"\xff\x00")
    client.text("raise")
    client.text("nothing")
    client.text("ü")
    assert client.frame() == (TEXT, "ü".encode())
    assert client.call("getblockcount")["result"] == 840000


def test_raw_messages_of_one_client_stay_in_order(start: ServerFactory, connect: ClientFactory) -> None:
    pause = threading.Event()

    def on_message(session: Session, message: str | bytes) -> Any:
        pause.wait(0.05 if message == "0" else 0)
        return message

    client = connect(start(on_message=on_message))
    client.send(b"".join(client_frame(TEXT, b"%d" % at) for at in range(10)))
    assert [client.message() for _ in range(10)] == [b"%d" % at for at in range(10)]


# The protocol on the wire


def test_frames_in_the_same_packet_as_the_upgrade(start: ServerFactory, connect: ClientFactory) -> None:
    client = connect(start(), upgrade=False)
    client.upgrade(REQUEST + client_frame(TEXT, b'{"method":"getblockcount","id":1}'))
    assert client.answer()["result"] == 840000


def test_everything_byte_by_byte(start: ServerFactory, connect: ClientFactory) -> None:
    client = connect(start(), upgrade=False)
    for at in range(len(REQUEST)):
        client.send(REQUEST[at : at + 1])
    client.head()
    data = client_frame(TEXT, b'{"method":"getbl', fin=False) + client_frame(PING, b"?")
    data += client_frame(CONTINUATION, b'ockcount","id":1}')
    for at in range(len(data)):
        client.send(data[at : at + 1])
    assert client.frame() == (PONG, b"?")
    assert client.answer()["result"] == 840000


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (client_frame(TEXT, b"x", key=None), 1002),
        (client_frame(TEXT, b"x", rsv=4), 1002),
        (client_frame(3, b"x"), 1002),
        (client_frame(PING, b"x", fin=False), 1002),
        (client_frame(PING, b"x" * 126), 1002),
        (client_frame(CONTINUATION, b"x"), 1002),
        (client_frame(TEXT, b"\xff"), 1007),
        (client_frame(CLOSE, b"\x03"), 1002),
        (client_frame(CLOSE, (1005).to_bytes(2, "big")), 1002),
        (client_frame(CLOSE, (1000).to_bytes(2, "big") + b"\xff"), 1007),
        (b"\x81\xff" + (1 << 62).to_bytes(8, "big") + b"abcd", 1009),
        (client_frame(BINARY, b"x" * 3_000_000)[:14], 1009),
    ],
)
def test_protocol_errors_end_in_the_right_code_and_affect_no_other_client(
    start: ServerFactory, connect: ClientFactory, data: bytes, code: int
) -> None:
    server = start()
    other, client = connect(server), connect(server)
    client.send(data)
    found, reason = client.close_frame()
    assert found == code
    assert reason
    if code == 1009:
        assert reason == "message size limit of 2097152 bytes (rpcwebsocketmessagesize)"
    assert client.at_end()
    assert other.call("getblockcount")["result"] == 840000


@pytest.mark.parametrize("payload", [b"", close_payload(1000), close_payload(3000, "why"), close_payload(1014)])
def test_a_close_is_answered_with_its_code_and_the_end_of_the_stream(
    start: ServerFactory, connect: ClientFactory, payload: bytes
) -> None:
    client = connect(start(linger_timeout=10 * TEST_TIMEOUT))
    client.send(client_frame(CLOSE, payload))
    assert client.frame() == (CLOSE, payload[:2])
    assert client.at_end()


def test_quick_calls_before_a_close_are_answered_before_it(start: ServerFactory, connect: ClientFactory) -> None:
    client = connect(start())
    client.send(
        client_frame(TEXT, b'{"method":"getblockcount","id":1}')
        + client_frame(PING, b"first")
        + client_frame(CLOSE, close_payload(1000))
    )
    assert client.answer()["id"] == 1
    assert client.frame() == (PONG, b"first")
    assert client.close_frame() == (1000, "")


def test_a_close_does_not_wait_for_calls(
    start: ServerFactory, connect: ClientFactory, rpc: RpcTable, gate: threading.Event
) -> None:
    rpc.register("wait", lambda: gate.wait(30), blocking=True)
    server = start(close_timeout=10 * TEST_TIMEOUT, linger_timeout=10 * TEST_TIMEOUT)
    client = connect(server)
    client.request("wait", id=1)
    client.send(client_frame(CLOSE, close_payload(1000)))
    assert client.frame() == (CLOSE, close_payload(1000))
    assert client.at_end()
    client.close()
    wait_for(lambda: server.connection_count == 0)
    assert not gate.is_set(), "the call is still running"


def test_a_client_that_does_not_answer_our_close_is_dropped(start: ServerFactory, connect: ClientFactory) -> None:
    server = start(close_timeout=0.2)
    client = connect(server)
    wait_for(lambda: server.connection_count == 1)
    server.close_connection(server.connections()[0].id, 1000)
    assert client.close_frame() == (1000, "")
    client.request("getblockcount")
    client.send(client_frame(PING, b"?"))
    assert client.at_end(), "nothing follows a close frame"
    wait_for(lambda: server.connection_count == 0)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 426),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 405),
        (REQUEST.replace(b"Version: 13", b"Version: 7"), 426),
        (REQUEST[:-2] + b"X: " + b"y" * 20_000 + b"\r\n\r\n", 431),
        (b"\x00\x01\x02\r\n\r\n", 400),
        (REQUEST.replace(b"localhost", b"evil.example"), 403),
        (REQUEST[:-2] + b"Origin: https://evil.example\r\n\r\n", 403),
        (REQUEST[:-2] + b"Origin: null\r\n\r\n", 403),
    ],
)
def test_refused_handshakes_are_http_answers(
    start: ServerFactory, connect: ClientFactory, request_: bytes, status: int
) -> None:
    client = connect(start(http=0), upgrade=False)
    client.send(request_)
    found, headers, body = client.response()
    assert found == status
    assert body
    assert headers["connection"] == "close"
    if status == 426:
        assert headers["sec-websocket-version"] == "13"


@pytest.mark.parametrize("message", [b'{"method":"getblockcount","id":"\xff"}', b'{"method":"add","z":"\xff","id":1}'])
def test_binary_frames_with_bad_utf8_are_a_parse_error(
    start: ServerFactory, connect: ClientFactory, message: bytes
) -> None:
    client = connect(start())
    client.send(client_frame(BINARY, message))
    assert client.answer()["error"]["code"] == -32700
    assert client.call("getblockcount")["result"] == 840000


def test_our_close_crosses_a_close_that_waits_behind_calls(
    start: ServerFactory, connect: ClientFactory, rpc: RpcTable, gate: threading.Event
) -> None:
    rpc.register("wait", lambda: gate.wait(30), blocking=True)
    server = start(in_flight=2, close_timeout=30)
    client = connect(server)
    client.send(client_frame(TEXT, b'{"method":"wait","id":1}') * 3 + client_frame(CLOSE, close_payload(1000)))
    wait_for(lambda: server.connections()[0].in_flight == 2)
    server.close_connection(server.connections()[0].id, 4000)
    assert client.close_frame() == (4000, "")
    assert client.at_end()


def test_a_client_can_be_sent_to_from_on_connect(start: ServerFactory, connect: ClientFactory) -> None:
    server: WebSocketServer = start(on_connect=lambda session: server.send(session.connection_id, "welcome"))
    for _ in range(20):
        assert connect(server).frame() == (TEXT, b"welcome")


def test_a_fault_of_the_server_ends_one_connection_only(
    start: ServerFactory, connect: ClientFactory, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    server = start()
    other, client = connect(server), connect(server)
    receive = RpcService.receive

    def faulty(self: RpcService, session: Session, opcode: int, payload: bytes) -> Any:
        if payload == b"fault":
            raise ZeroDivisionError
        return receive(self, session, opcode, payload)

    monkeypatch.setattr(RpcService, "receive", faulty)
    client.text("fault")
    assert client.close_frame() == (1011, "internal error")
    assert "ZeroDivisionError" in caplog.text
    assert other.call("getblockcount")["result"] == 840000


# Deadlines


def test_a_silent_connection_gets_an_answer_and_is_closed(start: ServerFactory, connect: ClientFactory) -> None:
    client = connect(start(handshake_timeout=0.2), upgrade=False)
    status, _, body = client.response()
    assert status == 408
    assert b"handshake timeout limit of 0.2 s (rpcwebsockethandshaketimeout)" in body


def test_pings_keep_their_interval_where_the_timeout_is_longer(start: ServerFactory, connect: ClientFactory) -> None:
    client = connect(start(ping_interval=0.1, pong_timeout=60.0))
    for _ in range(3):  # the socket's own timeout is far shorter than that of the pong
        assert client.frame() == (PING, b"")
        client.send(client_frame(PONG))


def test_pings_are_sent_after_silence_and_answers_keep_a_client(start: ServerFactory, connect: ClientFactory) -> None:
    server = start(ping_interval=0.1, pong_timeout=0.3)
    client, silent = connect(server), connect(server)
    for _ in range(6):
        assert client.frame() == (PING, b"")
        client.send(client_frame(PONG))
    assert silent.frame() == (PING, b"")
    code, reason = silent.close_frame()
    assert code == 1011
    assert "pong timeout limit of 0.3 s (rpcwebsocketpongtimeout)" in reason
    assert server.connection_count == 1


# Limits


def test_the_limit_of_connections(start: ServerFactory, connect: ClientFactory) -> None:
    server = start(connections=2)
    first, _ = connect(server), connect(server)
    third = connect(server, upgrade=False)
    status, _, body = third.response()
    assert status == 503
    assert b"rpcwebsocketconnections" in body
    first.close()
    wait_for(lambda: server.connection_count == 1)
    assert connect(server).call("getblockcount")["result"] == 840000


def test_a_client_that_never_reads_is_bounded_and_cut(
    start: ServerFactory, connect: ClientFactory, rpc: RpcTable
) -> None:
    rpc.register("big", lambda: "x" * 500_000)
    ends: list[Any] = []
    server = start(write_stall=0.7, outbox=1 << 20, on_disconnect=lambda *end: ends.append(end[1:]))
    client, other = connect(server, receive_buffer=4096), connect(server)
    worst = 0
    client.send(b"".join(client_frame(TEXT, b'{"method":"big","id":%d}' % at) for at in range(200)))
    while not ends:
        assert other.call("getblockcount")["result"] == 840000
        worst = max([worst, *(info.unsent_bytes for info in server.connections())])
    assert 0 < worst <= (1 << 20) + 600_000
    assert ends[0][0] == 4108
    assert "rpcwebsocketwritestall" in ends[0][1]


def test_a_host_cannot_flood_a_client_that_does_not_read(start: ServerFactory, connect: ClientFactory) -> None:
    server = start(outbox=100_000)
    client = connect(server, receive_buffer=4096)
    wait_for(lambda: server.connection_count == 1)
    number = server.connections()[0].id

    def flood() -> None:
        for _ in range(1000):
            server.send(number, b"x" * 50_000)

    with pytest.raises(OutboxFullError, match="rpcwebsocketoutbox"):
        flood()
    for _ in range(4):
        server.broadcast(b"x" * 50_000)
    while True:
        opcode, payload = client.frame()
        if opcode == CLOSE:
            break
    assert int.from_bytes(payload[:2], "big") == 4108


def test_slow_answers_to_a_client_that_does_not_read_are_bounded(
    start: ServerFactory, connect: ClientFactory, rpc: RpcTable, gate: threading.Event
) -> None:
    def big() -> str:
        gate.wait(30)
        return "x" * 900_000

    rpc.register("big", big, blocking=True)
    server = start(outbox=1 << 20, result_size=1_000_000, write_stall=30)
    client = connect(server, receive_buffer=4096)
    for at in range(12):
        client.request("big", id=at)
    wait_for(lambda: server.connections()[0].in_flight == 12)
    gate.set()
    wait_for(lambda: server.connections()[0].in_flight == 0)
    assert server.connections()[0].unsent_bytes < (1 << 20) + 1_000_000 + 12 * 500
    got = [client.answer() for _ in range(12)]
    assert {answer["id"] for answer in got} == set(range(12))
    refused = [answer for answer in got if "error" in answer]
    assert refused
    assert all(answer["error"]["code"] == -32009 for answer in refused)
    assert "rpcwebsocketoutbox" in refused[0]["error"]["message"]


def test_one_legal_reply_larger_than_the_outbox_goes_out_whole(
    start: ServerFactory, connect: ClientFactory, rpc: RpcTable
) -> None:
    rpc.register("big", lambda: "x" * 5_000_000)
    client = connect(start(outbox=4096), receive_buffer=4096)
    assert len(client.call("big")["result"]) == 5_000_000
    client.request("big")
    client.send(client_frame(CLOSE, close_payload(1000)))
    assert len(client.answer()["result"]) == 5_000_000
    assert client.close_frame() == (1000, "")


def test_a_flood_of_pings_without_reading_is_bounded(start: ServerFactory, connect: ClientFactory) -> None:
    server = start(outbox=64 * 1024, write_stall=30)
    client = connect(server, receive_buffer=4096)
    client.sock.settimeout(0.3)
    pings = client_frame(PING, b"x" * 125) * 500
    with pytest.raises(TimeoutError):
        all(client.sock.sendall(pings) is None for _ in itertools.count())
    assert server.connections()[0].unsent_bytes < 64 * 1024 + 70_000
    assert connect(server).call("getblockcount")["result"] == 840000


def test_two_hundred_slow_lorises_delay_no_other_client(start: ServerFactory, connect: ClientFactory) -> None:
    server = start(handshake_timeout=0.8)
    slow = [connect(server, upgrade=False) for _ in range(200)]
    client = connect(server)
    sent = 0
    while server.statistics().connections.total > 1:
        for loris in slow:
            try:
                loris.send(REQUEST[sent : sent + 1])
            except OSError:
                pass  # closed at its deadline
        sent = min(sent + 1, len(REQUEST) - 5)
        assert client.call("getblockcount")["result"] == 840000


@pytest.mark.load
def test_five_thousand_idle_connections_add_no_thread(start: ServerFactory) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 5000
    if hard < 2 * wanted + 300:
        pytest.skip(f"{hard} open files are too few")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * wanted + 300), hard))
    clients: list[socket.socket] = []
    try:
        server = start(connections=10_000)
        with RawClient(server.port) as client:
            client.call("getblockcount")
            threads = threading.active_count()
            for at in range(wanted):
                sock = socket.create_connection(("127.0.0.1", server.port), source_address=(f"127.0.{at % 50}.2", 0))
                sock.sendall(REQUEST)
                clients.append(sock)
            wait_for(lambda: server.connection_count == wanted + 1, 30)
            assert threading.active_count() == threads
            assert client.call("getblockcount")["result"] == 840000
            assert server.broadcast("hello") == wanted + 1
            assert client.frame() == (TEXT, b"hello")
    finally:
        for sock in clients:
            sock.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    wait_for(lambda: server.connection_count == 0, 30)
    assert server.statistics().connections.total == 0


def test_nothing_of_a_closed_connection_is_kept(start: ServerFactory) -> None:
    server = start()
    for _ in range(50):
        with RawClient(server.port) as client:
            client.call("getblockcount")
    wait_for(lambda: server.connection_count == 0)
    gc.collect()
    kept = (MessageParser, HttpConnection, PendingCall)  # a connection itself waits for its timers to be due
    assert [found for found in gc.get_objects() if isinstance(found, kept)] == []


def test_disconnects_in_the_middle_of_everything(start: ServerFactory, rpc: RpcTable) -> None:
    pause = threading.Event()
    rpc.register("nap", lambda: pause.wait(0.01), blocking=True)
    server = start()
    text = json.dumps({"method": "nap", "id": 1}).encode()
    for data in (
        b"GET",
        REQUEST,
        REQUEST + b"\x81",
        REQUEST + client_frame(TEXT, text),
        REQUEST + client_frame(TEXT, text) * 30,
        REQUEST + client_frame(TEXT, text, fin=False),
        REQUEST + client_frame(TEXT, b"x" * 100_000)[:50_000],
        REQUEST + client_frame(CLOSE, b"") + b"more",
    ):
        for linger in (False, True):
            sock = socket.create_connection(("127.0.0.1", server.port))
            if linger:  # a reset in place of an orderly end
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            sock.sendall(data)
            sock.close()
    with RawClient(server.port) as client:
        assert client.call("getblockcount")["result"] == 840000
    wait_for(
        lambda: (
            server.statistics().connections.total == 0
            and not any(job_class.running for job_class in server.statistics().jobs.values())
        )
    )


@pytest.mark.parametrize(("memory", "lines"), [(100 << 20, 1), (1 << 30, 0), (None, 0)])
def test_a_limit_of_memory_below_what_is_needed_is_said_once(
    start: ServerFactory,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    memory: int | None,
    lines: int,
) -> None:
    monkeypatch.setattr("dilithion_ws.service.assembly.available_memory", lambda: memory)
    start(connections=1000)
    assert caplog.text.count("the process may take 100 MB more") == lines


@pytest.mark.parametrize("files", [100, 5000])
def test_a_limit_of_the_process_below_that_of_connections_is_said_once(
    start: ServerFactory, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, files: int
) -> None:
    monkeypatch.setattr("dilithion_ws.service.assembly.available_files", lambda: files)
    start(connections=1000)
    text = f"the process may open {files} files more, which is too few for the connections limit of 1000 connections"
    assert caplog.text.count(text) == (1 if files < 1000 else 0)

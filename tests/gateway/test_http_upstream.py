"""Requests to a node that answers as a test says, byte by byte."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dilithion_ws.gateway.gateway_config import GatewayConfig
from dilithion_ws.gateway.http_upstream import HttpUpstream, NodeAccount
from dilithion_ws.gateway.upstream_errors import UpstreamError, UpstreamErrorKind

Post = Callable[..., "tuple[int, bytes]"]


class Node:
    """Accepts connections, reads one request of each, and sends the next of its answers; None sends nothing."""

    def __init__(self, *answers: bytes | None) -> None:
        self._answers = list(answers)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.requests: list[bytes] = []
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        for answer in self._answers:
            sock, _ = self._listener.accept()
            with sock:
                sock.settimeout(10)
                data = b""
                while not data.endswith(b"{}"):
                    data += sock.recv(65536)
                self.requests.append(data)
                if answer is None:
                    self._is_over.wait(10)
                else:
                    sock.sendall(answer)

    def close(self) -> None:
        self._is_over.set()
        self._thread.join(10)
        self._listener.close()


@pytest.fixture
def make() -> Iterator[Callable[..., Node]]:
    nodes: list[Node] = []

    def make(*answers: bytes | None) -> Node:
        nodes.append(Node(*answers))
        return nodes[-1]

    yield make
    for node in nodes:
        node.close()


def response(status: str, body: bytes = b"", *headers: str) -> bytes:
    head = "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers])
    return head.encode() + b"\r\n\r\n" + body


def upstream(url: str, account: NodeAccount | None = None, **settings: int) -> HttpUpstream:
    config = GatewayConfig(upstream=url, **settings)  # type: ignore[arg-type]
    return HttpUpstream(config, account or NodeAccount("", "", ""), 1)


def failure(url: str, timeout: float = 5.0, **settings: int) -> UpstreamErrorKind:
    with pytest.raises(UpstreamError) as caught:
        upstream(url, None, **settings).post(b"{}", {}, timeout)
    return caught.value.kind


def test_an_answer_is_read_whole(make: Callable[..., Node]) -> None:
    reply = upstream(make(response("200 OK", b"[1]", "X-Kind: a")).url).post(b"{}", {}, 5.0)
    assert (reply.status, reply.body, reply.headers["X-Kind"]) == (200, b"[1]", "a")


def test_credentials_are_sent(make: Callable[..., Node]) -> None:
    node = make(response("200 OK"))
    upstream(node.url, NodeAccount("a", "b", "")).post(b"{}", {}, 5.0)
    assert b"\r\nAuthorization: Basic YTpi\r\n" in node.requests[0]


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"", UpstreamErrorKind.LOST),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12", UpstreamErrorKind.LOST),
        (b"nonsense\r\n\r\n", UpstreamErrorKind.LOST),
    ],
    ids=["closed", "too short", "no HTTP"],
)
def test_an_answer_that_is_not_whole_may_have_been_carried_out(
    make: Callable[..., Node], answer: bytes, kind: UpstreamErrorKind
) -> None:
    assert failure(make(answer).url) is kind


def test_an_answer_that_does_not_come_in_time_is_slow(make: Callable[..., Node]) -> None:
    assert failure(make(None).url, timeout=0.2) is UpstreamErrorKind.SLOW


def test_an_answer_that_is_too_large_is_not_read(make: Callable[..., Node]) -> None:
    node = make(response("200 OK", b"x" * 5000))
    assert failure(node.url, answer_size=1024) is UpstreamErrorKind.TOO_LARGE


def test_without_a_node_nothing_was_sent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert failure(f"http://127.0.0.1:{port}") is UpstreamErrorKind.DOWN


def test_a_node_that_speaks_no_tls_is_down(make: Callable[..., Node]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_answer_in_plain_text, args=(listener,))
        thread.start()
        assert failure(f"https://127.0.0.1:{listener.getsockname()[1]}") is UpstreamErrorKind.DOWN
        thread.join(10)


def _answer_in_plain_text(listener: socket.socket) -> None:
    sock, _ = listener.accept()
    with sock:
        sock.recv(65536)
        sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def test_a_call_past_its_time_is_not_sent() -> None:
    assert failure("http://127.0.0.1:1", timeout=0.0) is UpstreamErrorKind.BUSY


def test_a_cookie_that_has_changed_is_tried_at_once(make: Callable[..., Node], tmp_path: Path) -> None:
    cookie = tmp_path / ".cookie"
    cookie.write_text("__cookie__:old")
    account = NodeAccount("", "", str(cookie))
    node = make(response("401 Unauthorized"), response("200 OK", b"1"))
    cookie.write_text("__cookie__:new")
    assert upstream(node.url, account).post(b"{}", {}, 5.0).status == 200
    assert len(node.requests) == 2


@pytest.mark.parametrize("damage", ["missing", "no text"])
def test_a_cookie_that_cannot_be_read_stays_as_it_was(tmp_path: Path, damage: str) -> None:
    cookie = tmp_path / ".cookie"
    cookie.write_text("a:b")
    account = NodeAccount("", "", str(cookie))
    if damage == "missing":
        cookie.unlink()
    else:
        cookie.write_bytes(b"\xff")
    account.renew()
    assert account.headers() == {"Authorization": "Basic YTpi"}


def test_a_node_that_stops_keeps_no_connection(make: Callable[..., Node]) -> None:
    assert upstream(make(response("503 Service Unavailable")).url).post(b"{}", {}, 5.0).status == 503

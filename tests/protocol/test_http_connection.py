from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dilithion_ws.protocol.handshake import UpgradeRequest, accept_response, tokens_of
from dilithion_ws.protocol.http import HttpRefusal
from dilithion_ws.protocol.http_connection import HttpConnection, HttpLimits, HttpOutcome

from ..support import ACCEPT, REQUEST, client_frame


def shake(data: bytes, limit: int = 16384) -> HttpOutcome | None:
    return HttpConnection(HttpLimits(limit, "header size limit of 16384 bytes (rpcwebsocketheadersize)")).receive(data)


def changed(old: str, new: str) -> bytes:
    assert old.encode() in REQUEST
    return REQUEST.replace(old.encode(), new.encode())


def test_the_example_of_the_rfc() -> None:
    request = shake(REQUEST)
    assert isinstance(request, UpgradeRequest)
    assert request.target == "/"
    assert request.header(b"host") == "localhost"
    assert request.header(b"origin") is None
    response = accept_response(request, ((b"Sec-WebSocket-Protocol", b"dilithion.v1"),))
    assert response.startswith(b"HTTP/1.1 101 ")
    assert b"Sec-WebSocket-Accept: " + ACCEPT + b"\r\n" in response
    assert response.endswith(b"Sec-WebSocket-Protocol: dilithion.v1\r\n\r\n")


def test_a_request_in_single_bytes() -> None:
    upgrade = HttpConnection(HttpLimits(16384, ""))
    outcomes = [upgrade.receive(REQUEST[at : at + 1]) for at in range(len(REQUEST))]
    assert outcomes[:-1] == [None] * (len(REQUEST) - 1)
    assert isinstance(outcomes[-1], UpgradeRequest)


def test_frames_behind_the_request_are_kept() -> None:
    upgrade = HttpConnection(HttpLimits(16384, ""))
    frames = client_frame(1, b"early") + b"\x81"
    outcome = upgrade.receive(REQUEST + frames)
    assert isinstance(outcome, UpgradeRequest)
    assert outcome.trailing == frames


def test_names_and_tokens_know_no_case() -> None:
    data = changed("Upgrade: websocket", "uPGRADE: h2c, WebSocket").replace(
        b"Connection: Upgrade", b"connection: keep-alive, UPGRADE"
    )
    assert isinstance(shake(data), UpgradeRequest)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (changed("GET ", "POST "), 405),
        (changed("HTTP/1.1", "HTTP/1.0"), 400),
        (changed("Host: localhost\r\n", ""), 400),
        (changed("Host: localhost\r\n", "Host: a\r\nHost: b\r\n"), 400),
        (changed("Upgrade: websocket\r\n", ""), 426),
        (changed("Upgrade: websocket", "Upgrade: h2c"), 426),
        (changed("Connection: Upgrade\r\n", ""), 400),
        (changed("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 8"), 426),
        (changed("Sec-WebSocket-Version: 13\r\n", ""), 426),
        (changed("dGhlIHNhbXBsZSBub25jZQ==", "short"), 400),
        (changed("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ!="), 400),
        (changed("\r\n\r\n", "\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"), 400),
        (changed("\r\n\r\n", "\r\nContent-Length: 5\r\n\r\n"), 400),
        (changed("\r\n\r\n", "\r\nTransfer-Encoding: chunked\r\n\r\n"), 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", None),
        (b"\x16\x03\x01\r\n\r\n", 400),
        (b"nonsense\r\n\r\n", 400),
        (changed("localhost", "l\xf6calhost"), None),
    ],
)
def test_every_broken_rule_has_its_status(data: bytes, status: int | None) -> None:
    outcome = shake(data)
    if status is not None:
        assert isinstance(outcome, HttpRefusal)
        assert outcome.status == status
        assert outcome.to_bytes(b"Sun, 06 Nov 1994 08:49:37 GMT").startswith(b"HTTP/1.1 %d " % status)


def test_a_wrong_version_is_answered_with_the_right_one() -> None:
    outcome = shake(changed("Version: 13", "Version: 25"))
    assert isinstance(outcome, HttpRefusal)
    assert b"\r\nSec-WebSocket-Version: 13\r\n" in outcome.to_bytes(b"Sun, 06 Nov 1994 08:49:37 GMT")


@pytest.mark.parametrize("whole", [True, False])
def test_headers_past_the_limit_are_refused_with_its_name(whole: bool) -> None:
    data = changed("\r\n\r\n", "\r\nX-Long: " + "a" * 17000 + ("\r\n\r\n" if whole else ""))
    outcome = shake(data)
    assert isinstance(outcome, HttpRefusal)
    assert outcome.status == 431
    assert b"rpcwebsocketheadersize" in outcome.to_bytes(b"Sun, 06 Nov 1994 08:49:37 GMT")


def test_frames_do_not_count_as_headers() -> None:
    assert isinstance(shake(REQUEST + b"\x81" * 20000), UpgradeRequest)


@given(st.integers(0, len(REQUEST) - 1), st.integers(0, 255))
def test_every_change_of_one_byte_has_an_answer(at: int, byte: int) -> None:
    outcome = shake(REQUEST[:at] + bytes((byte,)) + REQUEST[at + 1 :])
    if isinstance(outcome, HttpRefusal):
        assert outcome.status in (400, 405, 426, 505)
        assert outcome.to_bytes(b"Sun, 06 Nov 1994 08:49:37 GMT").endswith(b"\n")
    elif isinstance(outcome, UpgradeRequest):
        assert accept_response(outcome).startswith(b"HTTP/1.1 101 ")


@given(st.binary(max_size=300))
def test_random_bytes_never_raise(data: bytes) -> None:
    outcome = shake(data + b"\r\n\r\n")
    assert outcome is None or isinstance(outcome, (HttpRefusal, UpgradeRequest))


@given(
    st.sampled_from([b"upgrade", b"connection", b"sec-websocket-version", b"origin"]),
    st.lists(st.sampled_from([b"websocket", b"Upgrade", b"upgrade", b"13", b"keep-alive, Upgrade", b""]), max_size=2),
)
def test_the_usual_values_have_the_tokens_that_they_would_have_anyway(name: bytes, values: list[bytes]) -> None:
    plainly = [token.strip() for value in values for token in value.lower().split(b",")]
    assert tokens_of({name: values}, name) == plainly

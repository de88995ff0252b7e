"""The check of a TLS client's first message, with messages of real clients and with broken ones."""

from __future__ import annotations

import contextlib
import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dilithion_ws.protocol.client_hello import HEADER_SIZE, record_size, refuse_client_hello

X25519, P256, FFDHE2048, FFDHE8192 = 0x001D, 0x0017, 0x0100, 0x0104


def vector(size: int, data: bytes) -> bytes:
    return len(data).to_bytes(size, "big") + data


def number(value: int) -> bytes:
    return value.to_bytes(2, "big")


def hello(groups: list[int] | None, shares: list[int] | None, extra: bytes = b"") -> bytes:
    extensions = extra
    if groups is not None:
        extensions += number(10) + vector(2, vector(2, b"".join(map(number, groups))))
    if shares is not None:
        entries = b"".join(number(share) + vector(2, b"key") for share in shares)
        extensions += number(51) + vector(2, vector(2, entries))
    body = b"\x03\x03" + bytes(32) + vector(1, b"") + vector(2, b"\x13\x01") + vector(1, b"\0") + vector(2, extensions)
    return b"\x16\x03\x01" + vector(2, b"\x01" + vector(3, body))


def real_hello(version: ssl.TLSVersion) -> bytes:
    """The first message of Python's own client."""
    context = ssl.create_default_context()
    context.maximum_version = version
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_real_client_may_go_on(version: ssl.TLSVersion) -> None:
    record = real_hello(version)
    assert record_size(record[:HEADER_SIZE]) == len(record)
    assert refuse_client_hello(record) == ""


@pytest.mark.parametrize(
    ("groups", "shares", "is_allowed"),
    [
        ([X25519, P256, FFDHE2048], [X25519], True),
        ([X25519, FFDHE8192], [], True),  # the server asks for X25519
        (None, None, True),  # TLS 1.2, which has no finite-field groups here
        ([X25519, FFDHE8192], [FFDHE8192], False),
        ([X25519, FFDHE8192], [X25519, FFDHE8192], False),
        ([FFDHE8192], [], False),
        ([FFDHE2048, FFDHE8192], None, False),
        ([0x0A0A, FFDHE8192], [0x0A0A], False),  # a group that no server has: it would ask for the other one
        ([0x001A, FFDHE8192], [], False),
        ([0x11EC, FFDHE8192], [0x11EC], False),
    ],
)
def test_finite_field_groups_are_refused(groups: list[int] | None, shares: list[int] | None, is_allowed: bool) -> None:
    assert (refuse_client_hello(hello(groups, shares)) == "") is is_allowed


def test_an_extension_that_occurs_twice_is_malformed() -> None:
    twice = number(51) + vector(2, vector(2, number(X25519) + vector(2, b"key")))
    assert "malformed" in refuse_client_hello(hello([X25519], [FFDHE8192], twice))


def test_a_message_in_two_records_is_malformed() -> None:
    record = hello([X25519], [X25519])
    assert "not in one record" in refuse_client_hello(record[:3] + number(20) + record[5:25])


@given(
    st.binary(max_size=200) | st.binary(max_size=60).map(lambda data: hello([X25519], [X25519])[: -len(data) or None])
)
def test_whatever_arrives_has_a_verdict(record: bytes) -> None:
    assert isinstance(refuse_client_hello(record), str)

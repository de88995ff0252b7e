"""The header of the PROXY protocol: both versions, in pieces, and nothing behind it."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dilithion_ws.protocol.proxy_protocol import ProxyHeader, ProxyHeaderError

from ..support.proxy_headers import SIGNATURE, version_1, version_2


def read(data: bytes, cuts: list[int]) -> tuple[ProxyHeader, bytes]:
    """Reads a header that comes in pieces; returns it and what it has left."""
    header, waiting = ProxyHeader(), b""
    for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        waiting += data[start:end]
        while waiting and not header.is_complete:
            wanted = header.missing_bytes(waiting)
            header.feed(waiting[:wanted])
            waiting = waiting[wanted:]
    return header, waiting


ADDRESSES = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str)


@given(ADDRESSES, st.integers(0, 65535), st.booleans(), st.binary(max_size=60), st.data())
def test_a_header_is_read_however_it_is_cut(
    client: str, port: int, second: bool, rest: bytes, data: st.DataObject
) -> None:
    text = version_2(client, port, b"\x03\x00\x04abcd") if second else version_1(client, port)
    whole = text + rest
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=5)))
    header, left = read(whole, cuts)
    assert header.is_complete
    assert header.client == (str(ipaddress.ip_address(client)), port)
    assert left == rest


@pytest.mark.parametrize(
    "text",
    [
        b"PROXY UNKNOWN\r\n",
        b"PROXY UNKNOWN ffff::1 ffff::1 1 2\r\n",
        SIGNATURE + b"\x20\x00\x00\x00",
        version_2("1.2.3.4", 5, command=0x20),
        SIGNATURE + b"\x21\x31\x00\xd8" + b"/path".ljust(216, b"\0"),
    ],
    ids=str,
)
def test_a_proxy_may_speak_for_itself(text: bytes) -> None:
    header, left = read(text + b"GET", [])
    assert (header.is_complete, header.client, left) == (True, None, b"GET")


@pytest.mark.parametrize(
    "text",
    [
        b"GET / HTTP/1.1\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
        b"PROXY TCP4 ::1 ::1 1 2\r\n",
        b"PROXY TCP4 1.2.3.4 x 1 2\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 99999 2\r\n",
        b"PROXY TCP4 " + b"1" * 120,
        b"PROXY TCP4 " + b"1" * 120 + b"\r\n",
        SIGNATURE + b"\x31\x11\x00\x0c" + b"\0" * 12,
        SIGNATURE + b"\x22\x11\x00\x0c" + b"\0" * 12,
        SIGNATURE + b"\x21\x11\x00\x04\0\0\0\0",
        SIGNATURE + b"\x21\x11\xff\xff",
        b"\x16\x03\x01",
        b"\r\n\r\nPROXY",
    ],
    ids=str,
)
def test_what_is_no_header_is_refused(text: bytes) -> None:
    with pytest.raises(ProxyHeaderError):
        read(text, [])


@given(st.binary(max_size=80), st.booleans())
def test_nothing_breaks_it(rest: bytes, second: bool) -> None:
    header = ProxyHeader()
    data = (SIGNATURE if second else b"PROXY ") + rest
    try:
        while data and not header.is_complete:
            wanted = header.missing_bytes(data)
            assert 0 < wanted <= len(data)
            header.feed(data[:wanted])
            data = data[wanted:]
    except ProxyHeaderError:
        pass

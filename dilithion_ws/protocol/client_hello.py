"""Look at the first message of a TLS client before OpenSSL does, and refuse costly key exchanges.

OpenSSL before 3.5 accepts the finite-field groups of RFC 7919 in TLS 1.3. A handshake with ffdhe8192 takes about 120 ms
of the server's processor time, and nothing of a client that replays one recorded message (CVE-2002-20001,
CVE-2022-40735). The `ssl` module cannot exclude them, except by allowing one group only, which costs most clients another
round trip.

So a client may not bring a key share of such a group, and has to know a group that every OpenSSL has. Then OpenSSL, which
prefers those, never selects a costly one, not even by a HelloRetryRequest (RFC 8446 section 4.1.4).
"""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["HEADER_SIZE", "record_size", "refuse_client_hello"]

HEADER_SIZE = 5
"""Bytes of the header of a TLS record (RFC 8446 section 5.1)."""

_CLIENT_HELLO = 1
_SUPPORTED_GROUPS, _KEY_SHARE = 10, 51
_FINITE_FIELD = range(0x0100, 0x0200)
"""Groups of RFC 7919 section 2, with those that are reserved for more of them."""

_ALWAYS_THERE = {0x0017, 0x0018, 0x0019, 0x001D}
"""secp256r1, secp384r1, secp521r1 and x25519. A client could name groups that the server does not have beside a costly
one, and would be asked for that."""

_MALFORMED = "the ClientHello is malformed, or not in one record"


def record_size(header: bytes) -> int:
    """Return the bytes of a record with its header."""
    return HEADER_SIZE + int.from_bytes(header[3:5], "big")


def refuse_client_hello(record: bytes) -> str:
    """Return why a client may not go on with its handshake, or nothing if it may.

    Args:
        record: the first record that it has sent, complete (RFC 8446 section 4.1.2).
    """
    try:
        extensions = dict(_extensions(_Reader(record[HEADER_SIZE:])))
        groups = _groups(extensions.get(_SUPPORTED_GROUPS))
        shares = _shares(extensions.get(_KEY_SHARE))
    except ValueError:
        return _MALFORMED
    if any(group in _FINITE_FIELD for group in shares):
        return "it offers a key of a finite-field group, which costs the server too much"
    if any(group in _FINITE_FIELD for group in groups) and not _ALWAYS_THERE & set(groups):
        return "it knows finite-field groups and no usual ones; these cost the server too much"
    return ""


class _Reader:
    """Takes numbers and vectors (RFC 8446 section 3.4) from bytes. Raises ValueError at their end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def is_empty(self) -> bool:
        return self._at >= len(self._data)

    def take(self, size: int) -> bytes:
        start, self._at = self._at, self._at + size
        if self._at > len(self._data):
            raise ValueError("too short")
        return self._data[start : self._at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def vector(self, length_size: int) -> _Reader:
        return _Reader(self.take(self.number(length_size)))


def _extensions(record: _Reader) -> Iterator[tuple[int, _Reader]]:
    """Yield type and content of each extension."""
    if record.number(1) != _CLIENT_HELLO:
        raise ValueError("not a ClientHello")
    hello = record.vector(3)
    hello.take(2 + 32)  # version and random
    hello.vector(1)  # session id
    hello.vector(2)  # cipher suites
    hello.vector(1)  # compression methods
    if hello.is_empty:
        return
    seen = set()
    extensions = hello.vector(2)
    while not extensions.is_empty:
        kind = extensions.number(2)
        if kind in seen:
            raise ValueError("an extension occurs twice")  # and OpenSSL may look at the other one
        seen.add(kind)
        yield kind, extensions.vector(2)


def _groups(extension: _Reader | None) -> list[int]:
    if extension is None:
        return []
    groups, found = extension.vector(2), []
    while not groups.is_empty:
        found.append(groups.number(2))
    return found


def _shares(extension: _Reader | None) -> list[int]:
    if extension is None:
        return []
    shares, found = extension.vector(2), []
    while not shares.is_empty:
        found.append(shares.number(2))
        shares.vector(2)  # the key
    return found

"""Look at the first message of a TLS client before OpenSSL does, and refuse costly key exchanges.

OpenSSL before 3.5 accepts the finite-field groups of RFC 7919 in TLS 1.3. A handshake with ffdhe8192 takes about 120 ms
of the server's processor time, and nothing of a client that replays one recorded message (CVE-2002-20001,
CVE-2022-40735). The `ssl` module cannot exclude them, except by allowing one group only, which costs most clients another
round trip.

So a client may not bring a key share of such a group, and has to know a group that every OpenSSL has. Then OpenSSL, which
prefers those, never selects a costly one, not even by a HelloRetryRequest (RFC 8446 section 4.1.4).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

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

_PAIR = struct.Struct(">HH").unpack_from
"""Two numbers of two bytes, the second of which is a length."""

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
        groups, shares = _groups_and_shares(record)
    except (ValueError, IndexError, struct.error):
        return _MALFORMED
    if any(group in _FINITE_FIELD for group in shares):
        return "it offers a key of a finite-field group, which costs the server too much"
    if not _ALWAYS_THERE.intersection(groups) and any(group in _FINITE_FIELD for group in groups):
        return "it knows finite-field groups and no usual ones; these cost the server too much"
    return ""


def _groups_and_shares(record: bytes) -> tuple[Sequence[int], list[int]]:
    """Return the groups that a ClientHello names, and those of which it has a key.

    Raises:
        ValueError, IndexError, struct.error: it is malformed.
    """
    if record[HEADER_SIZE] != _CLIENT_HELLO:
        raise ValueError("not a ClientHello")
    at, stop = _vector(record, HEADER_SIZE + 1, 3, len(record))
    at += 2 + 32  # version and random
    for length_size in (1, 2, 1):  # session id, cipher suites, compression methods
        _, at = _vector(record, at, length_size, stop)
    extensions: dict[int, tuple[int, int]] = {}
    at, stop = _vector(record, at, 2, stop) if at < stop else (at, at)
    while at < stop:
        kind, size = _PAIR(record, at)
        at += 4 + size
        if kind in extensions:
            raise ValueError("an extension occurs twice")  # and OpenSSL may look at the other one
        extensions[kind] = at - size, at
    if at > stop:
        raise ValueError("too short")
    groups: Sequence[int] = ()
    if _SUPPORTED_GROUPS in extensions:
        at, stop = _vector(record, extensions[_SUPPORTED_GROUPS][0], 2, extensions[_SUPPORTED_GROUPS][1])
        groups = struct.unpack(f">{(stop - at) // 2}H", record[at:stop])
    shares = []
    if _KEY_SHARE in extensions:
        at, stop = _vector(record, extensions[_KEY_SHARE][0], 2, extensions[_KEY_SHARE][1])
        while at < stop:
            group, size = _PAIR(record, at)
            at += 4 + size
            shares.append(group)
        if at > stop:
            raise ValueError("too short")
    return groups, shares


def _vector(data: bytes, at: int, length_size: int, end: int) -> tuple[int, int]:
    """Return where the content of a vector (RFC 8446 section 3.4) begins and ends.

    Raises:
        ValueError: it ends after `end`.
    """
    start = at + length_size
    stop = start + int.from_bytes(data[at:start], "big")
    if stop > end:
        raise ValueError("too short")
    return start, stop

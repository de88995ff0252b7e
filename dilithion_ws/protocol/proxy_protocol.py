"""The PROXY protocol, versions 1 and 2: a header in front of a connection in which a proxy names its client.

See sections 2.1 and 2.2 of the specification that HAProxy publishes. No byte after the header is consumed, since TLS may
follow.
"""

from __future__ import annotations

import ipaddress
import struct

__all__ = ["ProxyHeader", "ProxyHeaderError"]

_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_FIXED = 16
_MAX_LINE_LENGTH = 107
_MAX_REST_LENGTH = 4096
"""Bytes after the fixed part of a binary header: addresses of at most 216 bytes, and extensions."""
_LOCAL, _PROXY = 0x20, 0x21
_FAMILIES = {0x11: (4, ipaddress.IPv4Address), 0x21: (16, ipaddress.IPv6Address)}


class ProxyHeaderError(ValueError):
    """The received bytes are not a PROXY protocol header. The message says why."""


class ProxyHeader:
    """Parses one header, which may arrive in pieces.

    Attributes:
        is_complete: whether it has arrived.
        client: address and port of the client; None if the proxy connects on its own behalf, as in health checks.
    """

    def __init__(self) -> None:
        self.is_complete = False
        self.client: tuple[str, int] | None = None
        self._data = b""

    def missing_bytes(self, data: bytes) -> int:
        """Return how many of the available bytes belong to the header.

        Args:
            data: bytes that are available and not consumed yet.

        Raises:
            ProxyHeaderError: it is not such a header.
        """
        whole = self._data + data
        short = min(len(whole), len(_SIGNATURE))
        if whole[:short] == _SIGNATURE[:short]:
            if len(whole) < _FIXED:
                return len(data)
            size: int = _FIXED + struct.unpack_from("!H", whole, 14)[0]
            if size > _FIXED + _MAX_REST_LENGTH:
                raise ProxyHeaderError("its length is absurd")
            return min(len(data), size - len(self._data))
        if whole[:6] != b"PROXY "[: len(whole)]:
            raise ProxyHeaderError("the connection does not begin with one")
        end = whole.find(b"\r\n")
        if end < 0 and len(whole) < _MAX_LINE_LENGTH:
            return len(data)
        if not 0 <= end <= _MAX_LINE_LENGTH - 2:
            raise ProxyHeaderError("its line does not end")
        return end + 2 - len(self._data)

    def feed(self, data: bytes) -> None:
        """Consume bytes of the header. Raises ProxyHeaderError."""
        self._data += data
        whole = self._data
        if whole[:1] == b"\r":
            if len(whole) >= _FIXED and len(whole) == _FIXED + struct.unpack_from("!H", whole, 14)[0]:
                self.client = _binary(whole)
                self.is_complete = True
        elif whole.endswith(b"\r\n"):
            self.client = _line(whole[:-2])
            self.is_complete = True


def _line(line: bytes) -> tuple[str, int] | None:
    words = line.decode("latin-1").split(" ")
    if words[1:2] == ["UNKNOWN"]:
        return None
    try:
        _, protocol, source, destination, source_port, _ = words
        address = ipaddress.ip_address(source)
        ipaddress.ip_address(destination)
        port = int(source_port)
    except ValueError:
        raise ProxyHeaderError("its line can't be read") from None
    if protocol != f"TCP{address.version}" or not 0 <= port <= 65535:
        raise ProxyHeaderError("its line can't be read")
    return str(address), port


def _binary(whole: bytes) -> tuple[str, int] | None:
    command, family = whole[12], whole[13]
    if command == _LOCAL:
        return None
    if command != _PROXY:
        raise ProxyHeaderError("its version or command is unknown")
    if family not in _FAMILIES:
        return None  # a family without IP addresses: to be treated as the proxy's own (section 2.2)
    size, kind = _FAMILIES[family]
    rest = whole[_FIXED:]
    if len(rest) < 2 * size + 4:
        raise ProxyHeaderError("its addresses are cut off")
    return str(kind(rest[:size])), struct.unpack_from("!H", rest, 2 * size)[0]

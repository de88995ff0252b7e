"""The PROXY protocol, versions 1 and 2: the line in front of a connection with which a proxy tells whose it is.

See the specification that comes with HAProxy, sections 2.1 and 2.2. No byte behind the header is taken: what follows may
be TLS.
"""

from __future__ import annotations

import ipaddress
import struct

__all__ = ["ProxyHeader", "ProxyHeaderError"]

_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_FIXED = 16
_LONGEST_LINE = 107
_LONGEST_REST = 4096
"""Addresses and what else a proxy tells; ours have 216 bytes at most."""
_LOCAL, _PROXY = 0x20, 0x21
_FAMILIES = {0x11: (4, ipaddress.IPv4Address), 0x21: (16, ipaddress.IPv6Address)}


class ProxyHeaderError(ValueError):
    """What came is no such header; the text says why."""


class ProxyHeader:
    """Reads one header, however it is cut into pieces.

    Attributes:
        is_whole: whether it is there.
        client: address and port of the client, None where the proxy speaks for itself, as in its checks.
    """

    def __init__(self) -> None:
        self.is_whole = False
        self.client: tuple[str, int] | None = None
        self._data = b""

    def wants(self, data: bytes) -> int:
        """How many of the bytes that are there belong to the header.

        Args:
            data: what has come and was not taken yet.

        Raises:
            ProxyHeaderError: it is none.
        """
        whole = self._data + data
        short = min(len(whole), len(_SIGNATURE))
        if whole[:short] == _SIGNATURE[:short]:
            if len(whole) < _FIXED:
                return len(data)
            size: int = _FIXED + struct.unpack_from("!H", whole, 14)[0]
            if size > _FIXED + _LONGEST_REST:
                raise ProxyHeaderError("its length is absurd")
            return min(len(data), size - len(self._data))
        if whole[:6] != b"PROXY "[: len(whole)]:
            raise ProxyHeaderError("the connection does not begin with one")
        end = whole.find(b"\r\n")
        if end < 0 and len(whole) < _LONGEST_LINE:
            return len(data)
        if not 0 <= end <= _LONGEST_LINE - 2:
            raise ProxyHeaderError("its line does not end")
        return end + 2 - len(self._data)

    def take(self, data: bytes) -> None:
        """Takes bytes that it wants; raises ProxyHeaderError."""
        self._data += data
        whole = self._data
        if whole[:1] == b"\r":
            if len(whole) >= _FIXED and len(whole) == _FIXED + struct.unpack_from("!H", whole, 14)[0]:
                self.client = _binary(whole)
                self.is_whole = True
        elif whole.endswith(b"\r\n"):
            self.client = _line(whole[:-2])
            self.is_whole = True


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
        return None  # a family that has no addresses of ours: section 2.2 has it taken for the proxy's own
    size, kind = _FAMILIES[family]
    rest = whole[_FIXED:]
    if len(rest) < 2 * size + 4:
        raise ProxyHeaderError("its addresses are cut off")
    return str(kind(rest[:size])), struct.unpack_from("!H", rest, 2 * size)[0]

"""The server's side of the opening handshake (RFC 6455 section 4.2)."""

from __future__ import annotations

import base64
import binascii
import hashlib

import h11
import msgspec

from .http import Headers, HttpRefusal

__all__ = ["Fields", "UpgradeRequest", "accept_response", "check_upgrade", "fields_of", "tokens_of"]

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_VERSION = b"13"

_USUAL_TOKENS: dict[bytes, tuple[list[bytes], list[bytes]]] = {
    b"upgrade": ([b"websocket"], [b"websocket"]),
    b"connection": ([b"Upgrade"], [b"upgrade"]),
    b"sec-websocket-version": ([b"13"], [b"13"]),
}
"""What nearly all clients send, and its tokens."""

Fields = dict[bytes, list[bytes]]
"""The headers of a request: values by lower-case name."""


class UpgradeRequest(msgspec.Struct, frozen=True):
    """A request for a WebSocket that satisfies section 4.2.1.

    Attributes:
        target: path and query.
        fields: its headers.
        key: the value of Sec-WebSocket-Key.
        trailing: what has arrived behind it: the first frames.
    """

    target: str
    fields: Fields
    key: bytes
    trailing: bytes

    def __repr__(self) -> str:
        return f"<UpgradeRequest {self.target!r}>"  # the headers may contain a password

    def offers(self) -> list[str]:
        """Return the subprotocols that the client offers, in its order (section 11.3.4)."""
        offered = self.header(b"sec-websocket-protocol") or ""
        return [item.strip() for item in offered.split(",") if item.strip()]

    def header(self, name: bytes) -> str | None:
        """Return the value of a header (lower-case name), or None. Values of a repeated one are joined by commas."""
        values = self.fields.get(name)
        return None if values is None else b", ".join(values).decode("latin-1")


def check_upgrade(
    method: bytes, version: bytes, fields: Fields, target: str, trailing: bytes
) -> UpgradeRequest | HttpRefusal:
    """Return the upgrade that a request asks for, or a refusal whose status shows the client what to change.

    Args:
        method: of the request.
        version: of HTTP, such as `1.1`.
        fields: its headers.
        target: path and query.
        trailing: what has arrived behind it.
    """
    if method != b"GET":
        return HttpRefusal(405, "this port speaks WebSocket: the method must be GET", ((b"Allow", b"GET"),))
    if b"websocket" not in tokens_of(fields, b"upgrade"):
        return HttpRefusal(
            426,
            "this port speaks WebSocket: send Upgrade: websocket",
            ((b"Upgrade", b"websocket"), (b"Sec-WebSocket-Version", _VERSION)),
        )
    if b"upgrade" not in tokens_of(fields, b"connection"):
        return HttpRefusal(400, "the Connection header must contain Upgrade")
    if version != b"1.1":
        return HttpRefusal(400, "a WebSocket upgrade needs HTTP/1.1")
    if len(fields.get(b"host", ())) != 1:  # pragma: no cover - h11 refuses such a request earlier
        return HttpRefusal(400, "exactly one Host header is needed")
    if b"transfer-encoding" in fields or fields.get(b"content-length", [b"0"]) != [b"0"]:
        return HttpRefusal(400, "an upgrade request has no body")
    if tokens_of(fields, b"sec-websocket-version") != [_VERSION]:
        return HttpRefusal(426, "the WebSocket version must be 13", ((b"Sec-WebSocket-Version", _VERSION),))
    keys = fields.get(b"sec-websocket-key", [])
    if len(keys) != 1 or not _is_key(keys[0]):
        return HttpRefusal(400, "Sec-WebSocket-Key must be one base64 value of 16 bytes")
    return UpgradeRequest(target, fields, keys[0], trailing)


def accept_response(request: UpgradeRequest, headers: Headers = ()) -> bytes:
    """Return the 101 response that completes the upgrade (section 4.2.2), with further headers."""
    accept = base64.b64encode(hashlib.sha1(request.key + _GUID, usedforsecurity=False).digest())
    lines = b"".join(b"%b: %b\r\n" % header for header in headers)
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %b\r\n%b\r\n" % (accept, lines)
    )


def fields_of(request: h11.Request) -> Fields:
    """Return the headers of a request by name, in one pass: h11's own sequence of them is slow to iterate."""
    found: Fields = {}
    for name, value in request.headers.raw_items():
        found.setdefault(name.lower(), []).append(value)
    return found


def tokens_of(fields: Fields, name: bytes) -> list[bytes]:
    """Return the comma-separated tokens of a header in lower case (those of Upgrade and Connection have no case)."""
    usual = _USUAL_TOKENS.get(name)
    if usual is not None and fields.get(name) == usual[0]:
        return usual[1]
    return [token.strip() for value in fields.get(name, ()) for token in value.lower().split(b",")]


def _is_key(value: bytes) -> bool:
    try:
        return len(value) == 24 and len(base64.b64decode(value, validate=True)) == 16
    except binascii.Error:
        return False

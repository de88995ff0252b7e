"""JSON-RPC in MessagePack: the same messages, one to one, in another encoding.

What JSON can't say is refused (extension types) or said as JSON says it: bytes as base64 text, NaN and infinity as null.
Numbers with a fraction are 64-bit floats, which hold every amount of up to 90 million coins to the last digit. Integers
of more than 64 bits, which MessagePack does not have, are sent as text.
"""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = ["MessagePack"]

_from_json = msgspec.json.Decoder().decode
_to_json = msgspec.json.Encoder().encode
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder().decode

_LEAST, _MOST = -(1 << 63), (1 << 64) - 1


class MessagePack:
    """See `protocol.framing.Codec`."""

    binary = True

    def encode(self, data: bytes) -> bytes:
        """From JSON to MessagePack."""
        value = _from_json(data)
        try:
            return _pack(value)
        except OverflowError:
            return _pack(_with_large_integers_as_text(value))

    def decode(self, data: bytes) -> bytes:
        """From MessagePack to JSON; raises ValueError where it is malformed, or has what JSON can't say."""
        try:
            return _to_json(_unpack(data))
        except (msgspec.MsgspecError, TypeError, RecursionError, UnicodeError) as error:
            raise ValueError(f"not MessagePack that JSON could say: {error}") from None


def _with_large_integers_as_text(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _with_large_integers_as_text(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_with_large_integers_as_text(item) for item in value]
    if isinstance(value, int) and not _LEAST <= value <= _MOST:
        return str(value)
    return value

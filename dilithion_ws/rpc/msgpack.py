"""JSON-RPC in MessagePack: the same messages in another encoding.

Values that JSON cannot represent are refused (extension types, NaN and infinity) or converted as in JSON: bytes to a
text of hexadecimal digits. Numbers with a fraction are 64-bit floats, which are exact to the last digit for amounts of
up to 90 million coins. Integers of more than 64 bits, which MessagePack does not have, are sent as text.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ..util.json import encode_json

__all__ = ["MessagePack"]

_from_json = msgspec.json.Decoder().decode
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder().decode

_MIN_INTEGER, _MAX_INTEGER = -(1 << 63), (1 << 64) - 1


class MessagePack:
    """The codec for MessagePack. See `Codec`."""

    binary = True

    def encode(self, data: bytes) -> bytes:
        """Convert JSON to MessagePack."""
        value = _from_json(data)
        try:
            return _pack(value)
        except OverflowError:
            return _pack(_with_large_integers_as_text(value))

    def decode(self, data: bytes) -> bytes:
        """Convert MessagePack to JSON. Raise ValueError if it is malformed, or JSON cannot represent it."""
        try:
            return encode_json(_unpack(data))
        except (msgspec.MsgspecError, TypeError, RecursionError, ValueError) as error:
            raise ValueError(f"not MessagePack that JSON can represent: {error}") from None


def _with_large_integers_as_text(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _with_large_integers_as_text(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_with_large_integers_as_text(item) for item in value]
    if isinstance(value, int) and not _MIN_INTEGER <= value <= _MAX_INTEGER:
        return str(value)
    return value

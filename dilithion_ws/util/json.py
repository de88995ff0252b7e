"""JSON as this package writes it.

Decimal amounts are numbers with all their digits. Bytes are hexadecimal digits, as in the interfaces of nodes, where
msgspec writes base64. NaN and infinity are refused, where msgspec writes null.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from math import isfinite
from typing import Any

import msgspec

__all__ = ["encode_json"]

_SCALARS: frozenset[type] = frozenset({str, int, bool, type(None), Decimal, msgspec.Raw})
_SCALARS_AND_FLOAT = _SCALARS | {float}
_TEXT = frozenset({str})
_BYTES = (bytes, bytearray, memoryview)


def _encode_other(value: Any) -> Any:
    """Encode subclasses of Decimal, which msgspec does not know, without an exponent."""
    if isinstance(value, Decimal) and value.is_finite():
        return msgspec.Raw(format(value, "f").encode())
    raise TypeError(f"a value of type {type(value).__name__} can't be encoded as JSON")


_encode = msgspec.json.Encoder(decimal_format="number", enc_hook=_encode_other).encode


def encode_json(value: Any) -> bytes:
    """Return a value as JSON.

    Raises:
        ValueError: a number is not finite.
        Exception: what msgspec raises for a value that JSON cannot represent.
    """
    data = _encode(value)
    if type(value) not in _SCALARS:
        # msgspec has written null for a number that is not finite, so without any null there is none
        scalars = _SCALARS if b"null" in data else _SCALARS_AND_FLOAT
        if _contains_bytes([value], scalars):
            data = _encode(_with_hex(value))
    return data


def _contains_bytes(values: Iterable[Any], scalars: frozenset[type]) -> bool:
    """Return whether there are bytes in any of the values. Raise ValueError if there is a number that is not finite.

    Args:
        values: the values.
        scalars: types that need no look.
    """
    found = False
    waiting = [values]
    while waiting:
        items = waiting.pop()
        if scalars.issuperset(map(type, items)):  # the fastest look, and most containers have nothing else
            continue
        for item in items:
            kind = type(item)
            if kind in scalars:
                continue
            if kind is dict:
                found = found or (not _TEXT.issuperset(map(type, item)) and _contains_bytes([list(item)], scalars))
                waiting.append(item.values())
            elif kind is list or kind is tuple:
                waiting.append(item)
            elif kind is float:
                if not isfinite(item):
                    raise ValueError(f"{item} can't be encoded as JSON")
            elif isinstance(item, _BYTES):
                found = True
            elif not isinstance(item, Decimal):
                waiting.append([_to_builtins(item)])
    return found


def _to_builtins(value: Any) -> Any:
    """Return an object as lists and dictionaries. Decimal, bytes and Raw remain."""
    return msgspec.to_builtins(value, builtin_types=(*_BYTES, Decimal, msgspec.Raw), enc_hook=Decimal)


def _with_hex(value: Any) -> Any:
    """Return a value with texts in the place of bytes."""
    if isinstance(value, _BYTES):
        return value.hex()
    if type(value) in _SCALARS or isinstance(value, (float, Decimal)):
        return value
    if isinstance(value, dict):
        return {name.hex() if isinstance(name, bytes) else name: _with_hex(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_with_hex(item) for item in value]
    return _with_hex(_to_builtins(value))

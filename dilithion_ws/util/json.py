"""JSON as this package writes it: decimal amounts are numbers with all their digits."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

__all__ = ["encode_json"]


def _encode_other(value: Any) -> Any:
    """Encode subclasses of Decimal, which msgspec does not know, without an exponent."""
    if isinstance(value, Decimal) and value.is_finite():
        return msgspec.Raw(format(value, "f").encode())
    raise TypeError(f"a value of type {type(value).__name__} can't be encoded as JSON")


encode_json = msgspec.json.Encoder(decimal_format="number", enc_hook=_encode_other).encode
"""Return a value as JSON. Raises what msgspec raises for a value that JSON cannot represent."""

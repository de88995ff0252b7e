"""Events as JSON."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

__all__ = ["encode_event"]


def _encode_other(value: Any) -> Any:
    """What msgspec leaves to us: subclasses of Decimal."""
    if isinstance(value, Decimal) and value.is_finite():
        return msgspec.Raw(format(value, "f").encode())
    raise TypeError(f"a value of type {type(value).__name__} can't be encoded as JSON")


encode_event = msgspec.json.Encoder(decimal_format="number", enc_hook=_encode_other).encode
"""An event as JSON: amounts as numbers with all their digits. Raises what msgspec raises for what JSON can't hold."""

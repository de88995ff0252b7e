from __future__ import annotations

from decimal import Decimal

import pytest

from dilithion_ws.util.json import encode_json


class Amount(Decimal):
    """A subclass, which msgspec does not know."""


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Decimal("0.10"), b"0.10"),
        (Amount("1E+3"), b"1000"),
        (Amount("0.00000001"), b"0.00000001"),
        ([1, "a"], b'[1,"a"]'),
    ],
)
def test_amounts_keep_their_digits(value: object, text: bytes) -> None:
    assert encode_json(value) == text


@pytest.mark.parametrize("value", [object(), Amount("NaN")])
def test_other_types_are_refused(value: object) -> None:
    with pytest.raises(TypeError, match="can't be encoded as JSON"):
        encode_json(value)

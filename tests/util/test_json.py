from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal

import msgspec
import pytest

from dilithion_ws.util.json import encode_json


@dataclass
class Transaction:
    id: bytes
    fee: Decimal
    inputs: list[bytes]


class Holder(msgspec.Struct):
    value: msgspec.Raw


class Rate(msgspec.Struct):
    value: float


class Amount(Decimal):
    """A subclass, which msgspec does not know."""


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Decimal("0.10"), b"0.10"),
        (Amount("1E+3"), b"1000"),
        (Amount("0.00000001"), b"0.00000001"),
        ([1, "a"], b'[1,"a"]'),
        ({"a": Amount("0.10"), "b": [b"\x00\xff"]}, b'{"a":0.10,"b":["00ff"]}'),
        (bytearray(b"a"), b'"61"'),
        ((memoryview(b"a"), None, 0.5), b'["61",null,0.5]'),
        (Transaction(b"\x01", Decimal("0.10"), [b"\x02"]), b'{"id":"01","fee":0.10,"inputs":["02"]}'),
        ({"x": (Transaction(b"", Decimal(1), []),)}, b'{"x":[{"id":"","fee":1,"inputs":[]}]}'),
        ({1: b"a", "s": {3}}, b'{"1":"61","s":[3]}'),
        ({b"\xff": 1, "a": {b"\x00": [b"\x01"]}}, b'{"ff":1,"a":{"00":["01"]}}'),
        ([Holder(msgspec.Raw(b'{"x":1}')), b"a"], b'[{"value":{"x":1}},"61"]'),
        (Holder(msgspec.Raw(b"5")), b'{"value":5}'),
    ],
)
def test_amounts_keep_their_digits(value: object, text: bytes) -> None:
    assert encode_json(value) == text


@pytest.mark.parametrize("value", [object(), Amount("NaN")])
def test_other_types_are_refused(value: object) -> None:
    with pytest.raises(TypeError, match="can't be encoded as JSON"):
        encode_json(value)


@pytest.mark.parametrize(
    "value",
    [math.nan, [math.inf], {"a": (1, -math.inf)}, {"a": {"b": [{"c": math.nan}]}}, Rate(math.nan), [Rate(math.inf)]],
)
def test_numbers_that_are_not_finite_are_refused(value: object) -> None:
    with pytest.raises(ValueError, match="can't be encoded as JSON"):
        encode_json(value)

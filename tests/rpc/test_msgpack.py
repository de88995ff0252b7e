from __future__ import annotations

import json

import msgspec
import pytest

from dilithion_ws.rpc.msgpack import MessagePack

CODEC = MessagePack()


@pytest.mark.parametrize("value", [None, True, -5, 1.5, "ü", [1, [2]], {"a": {"b": []}}])
def test_values_are_the_same_in_both_encodings(value: object) -> None:
    packed = CODEC.encode(json.dumps(value).encode())
    assert msgspec.msgpack.decode(packed) == value
    assert json.loads(CODEC.decode(packed)) == value


def test_bytes_are_hexadecimal() -> None:
    assert CODEC.decode(msgspec.msgpack.encode([b"\x00\xff"])) == b'["00ff"]'


def test_integers_of_more_than_64_bits_are_text() -> None:
    packed = CODEC.encode(b'{"a":[18446744073709551616,1],"b":-9223372036854775809}')
    assert msgspec.msgpack.decode(packed) == {"a": ["18446744073709551616", 1], "b": "-9223372036854775809"}


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\xd4\x05a", b"\x91" * 5000, b"\xa1\xff"])
def test_what_json_cannot_represent_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="not MessagePack that JSON can represent"):
        CODEC.decode(data)

"""Reading strictly, answering exactly."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dilithion_ws import Limits, RpcError
from dilithion_ws.rpc import messages

LIMITS = Limits()


def code_of(data: bytes) -> int:
    with pytest.raises(RpcError) as caught:
        messages.parse_request(data, LIMITS)
    assert caught.value.error_code
    assert caught.value.recovery_steps
    return caught.value.code


@pytest.mark.parametrize(
    "id",
    [
        b"1",
        b'"12"',
        b'"1abc"',
        b'"-5"',
        rb'"a\"b"',
        b"18446744073709551615",
        b"-9223372036854775809",
        b"1.5",
        b"1.50",
        b"1e400",
        b"null",
        b'""',
        '"ü"'.encode(),
        b"9" * 3000,
        rb'"\ud83d\ude00"',
    ],
)
def test_an_id_comes_back_as_it_came(id: bytes) -> None:
    request = messages.parse_request(b'{"jsonrpc":"2.0","method":"m","id": %b }' % id, LIMITS)
    assert bytes(request.id) == id
    assert messages.success_answer(bytes(request.id), b"1").endswith(b'"id":' + id + b"}")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"nonsense",
        b'{"method":"m","id":01}',
        b'{"method":"m","id":1}x',
        b'{"method":"m","id":"\x01"}',
        rb'{"method":"m","id":"\ud800"}',
        rb'{"method":"m","id":"\x41"}',
        rb'{"method":"\ud800","id":1}',
        b'\xef\xbb\xbf{"method":"m"}',
        b'{"method":"m","params":' + b"[" * 33 + b"]" * 33 + b"}",
        b'{"a":' * 100_000,
        b"[" * 100_000,
        b'{"method":5,"id":',
        b"{'method':'m'}",
    ],
)
def test_what_is_no_json_is_a_parse_error(data: bytes) -> None:
    assert code_of(data) == -32700


@pytest.mark.parametrize(
    "data",
    [
        b"5",
        b"null",
        b'"text"',
        b"{}",
        b'{"id":1}',
        b'{"method":5}',
        b'{"method":null,"id":1}',
        b'{"jsonrpc":"1.0","method":"m"}',
        b'{"jsonrpc":2.0,"method":"m"}',
        b'{"method":"m","params":"x"}',
        b'{"method":"m","params":5}',
        b'{"method":"m","params":true}',
        b'{"method":"m","id":true}',
        b'{"method":"m","id":[1]}',
        b'{"method":"m","id":{}}',
        b'{"method":"m","method":"n"}',
        b'{"method":"m","id":1,"id":2}',
        b'{"method":"m","params":{"a":1,"a":2}}',
        rb'{"method":"m","id":1,"\u0069d":2}',
        b'{"method":"m","params":[{"x":{"y":1,"y":1}}]}',
        b'{"method" :"m","id" : 1 , "id" : 2}',
    ],
)
def test_what_is_no_request_is_an_invalid_request(data: bytes) -> None:
    assert code_of(data) == -32600


@pytest.mark.parametrize(
    "data",
    [
        b'{"method":"m"}',
        b'{"method":"m","extra":{"a":1}}',
        b'{"method":"m","params":{"a":":::","b":{"a":1}}}',
        b' \n{"method":"m"}\t',
        b'{"method":"m","params":null,"id":null,"jsonrpc":"2.0"}',
        b'{"method":"m","params":' + b"[" * 31 + b"]" * 31 + b"}",
        b'{"method":"m","params":["' + b"[" * 500 + b'"]}',
        rb'{"method":"m","params":["\"[[[' + b"[" * 500 + b'"]}',
        b'{"method":"m","params":[' + b"[]," * 500 + b"[]]}",
    ],
)
def test_unusual_requests_that_are_valid(data: bytes) -> None:
    assert messages.parse_request(data, LIMITS).method == "m"


def test_the_depth_error_names_the_limit() -> None:
    with pytest.raises(RpcError, match=r"json depth limit of 32 levels \(rpcwebsocketjsondepth\)"):
        messages.parse_request(b'{"method":"m","params":' + b"[" * 40 + b"]" * 40 + b"}", LIMITS)


@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_any_params_within_the_limits_are_read(value: Any) -> None:
    data = json.dumps({"jsonrpc": "2.0", "method": "m", "params": [value], "id": 1})
    request = messages.parse_request(data.encode(), Limits.from_names(json_depth=200))
    assert json.loads(bytes(request.params)) == [value]


@given(st.binary(max_size=100))
def test_random_bytes_are_an_error_and_nothing_else(data: bytes) -> None:
    for read in (messages.parse_request, messages.parse_batch):
        with contextlib.suppress(RpcError):
            read(data, LIMITS)
    assert messages.extract_id(data) is not None


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 33 + b'"' + rb"\"" * 700_000,
        b'{"method":"m","params":{' + b",".join(b'"k%d":1' % at for at in range(150_000)) + b',"k149999":1}}',
        b"[" + b"[]," * 600_000 + b"[]]",
        b'{"method":"m","params":' + b"[" * 1_000_000,
    ],
    ids=["open string", "late duplicate", "flat", "deep"],
)
def test_hostile_messages_of_two_megabytes_take_linear_time(data: bytes) -> None:
    """Quadratic time would be minutes here: the test's time limit tells."""
    assert code_of(data) in (-32700, -32600)


def test_identify_finds_the_id_of_a_broken_request() -> None:
    assert messages.extract_id(b'{"id":"7","method":5}') == b'"7"'
    assert messages.extract_id(b'{"method":5}') == b"null"
    assert messages.extract_id(b'{"id":[1]}') == b"null"
    assert messages.extract_id(b"[]") == b"null"
    assert messages.extract_id(b"{") == b"null"


class Amount(Decimal):
    """As a host may have one."""


@dataclass
class Block:
    hash: str
    height: int


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Decimal("0.10000000"), b"0.10000000"),
        (Amount("0.00000001"), b"0.00000001"),
        (Decimal("123456789012345678901234567890.5"), b"123456789012345678901234567890.5"),
        (2**64, b"18446744073709551616"),
        (-(2**200), str(-(2**200)).encode()),
        (Block("ab", 1), b'{"hash":"ab","height":1}'),
        ({"a": (1, None, True)}, b'{"a":[1,null,true]}'),
        ("NaN", b'"NaN"'),
        ("ü", '"ü"'.encode()),
    ],
)
def test_results_are_encoded_to_the_digit(value: Any, text: bytes) -> None:
    assert messages.encode_result(value) == text


@pytest.mark.parametrize(
    "value", [object(), {(1, 2): 3}, "\ud800", Decimal("NaN"), [Decimal("-Infinity")], Amount("NaN")]
)
def test_what_cannot_be_encoded_raises(value: Any) -> None:
    with pytest.raises(Exception, match=r".+"):
        messages.encode_result(value)


def test_an_error_with_data_that_cannot_be_encoded_is_still_an_answer() -> None:
    answer = json.loads(messages.error_answer(b"1", RpcError(5, 'a "quoted" text', object())))
    assert answer["error"] == {"code": 5, "message": 'a "quoted" text', "data": {"unencodable": "object"}}


def test_batches_are_split_and_bounded() -> None:
    assert messages.parse_batch(b' [1, {"a": 2}]', LIMITS) == [b"1", b'{"a": 2}']
    for data, code in ((b"[]", -32600), (b"[" + b"1," * 100 + b"1]", -32010), (b"[1", -32700)):
        with pytest.raises(RpcError) as caught:
            messages.parse_batch(data, LIMITS)
        assert caught.value.code == code

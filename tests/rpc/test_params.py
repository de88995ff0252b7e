from __future__ import annotations

from decimal import Decimal
from enum import Enum
from typing import Annotated, Any

import msgspec
import pytest

from dilithion_ws import CallContext, RpcError, Session
from dilithion_ws.rpc.params import ParamsBinder
from dilithion_ws.util.clock import Deadline

from ..support import Clock

CONTEXT = CallContext(Session(7, ("127.0.0.1", 1)), "m", 1, False, Deadline(Clock(), 1))


def bound(function: Any, params: bytes, context: CallContext | None = None) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return ParamsBinder("m", function).bind(params, context)


def refused(function: Any, params: bytes) -> RpcError:
    with pytest.raises(RpcError) as caught:
        bound(function, params)
    return caught.value


def getblock(hash: str, verbosity: int = 1) -> None: ...


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        (b'["ab"]', ("ab", 1)),
        (b'["ab", 2]', ("ab", 2)),
        (b'{"hash": "ab"}', ("ab", 1)),
        (b'{"verbosity": 0, "hash": "ab"}', ("ab", 0)),
    ],
)
def test_params_are_bound_by_position_and_by_name(params: bytes, expected: tuple[Any, ...]) -> None:
    assert bound(getblock, params) == (expected, {})


@pytest.mark.parametrize(
    ("params", "words"),
    [
        (b"[]", "missing required parameter `hash`"),
        (b"", "missing required parameter `hash`"),
        (b"null", "missing required parameter `hash`"),
        (b"{}", "missing required parameter `hash`"),
        (b'["a", 1, 2]', "takes at most 2 params"),
        (b'["a", "1"]', "Expected `integer`, got `string` - at `verbosity`"),
        (b'{"hash": 5}', "`hash`"),
        (b'{"hash": "a", "verbose": 1}', "unknown parameter `verbose`"),
        (b'["a", 1.5]', "`verbosity`"),
    ],
)
def test_a_mismatch_says_what_was_expected(params: bytes, words: str) -> None:
    error = refused(getblock, params)
    assert error.code == -32602
    assert words in error.message
    assert error.message.endswith("Expected m(hash: string, verbosity: integer = 1)")
    assert error.data == {"expected": "m(hash: string, verbosity: integer = 1)"}


@pytest.mark.parametrize("params", [b"", b"null", b"[]", b"{}", b"[ ]", b"{\n}"])
def test_no_params_in_every_spelling(params: bytes) -> None:
    assert bound(lambda: None, params) == ((), {})


@pytest.mark.parametrize("params", [b"[1]", b'{"a": 1}'])
def test_unexpected_params_are_refused(params: bytes) -> None:
    assert refused(lambda: None, params).code == -32602


class Point(msgspec.Struct):
    x: int
    y: int = 0


class Network(Enum):
    MAIN = "main"
    TEST = "test"


@pytest.mark.parametrize(
    ("function", "shown"),
    [
        (lambda: None, "m()"),
        (getblock, "m(hash: string, verbosity: integer = 1)"),
        (ParamsBinder.__init__, None),
    ],
)
def test_a_form_is_shown_in_the_terms_of_json(function: Any, shown: str | None) -> None:
    def all_kinds(
        network: Network,
        amounts: list[Decimal],
        height: Annotated[int, msgspec.Meta(ge=0)],
        points: list[Point] | None = None,
        free: Any = (),
        odd: Any = object(),  # noqa: B008
    ) -> None: ...

    if shown is None:
        function = all_kinds
        shown = (
            'm(network: "main" | "test", amounts: array of number, height: integer ≥ 0, '
            "points: array of {x: integer, y: integer} | null = null, free: any = [], odd: any = …)"
        )
    assert ParamsBinder("m", function).signature == shown


def test_hints_convert() -> None:
    def function(amount: Decimal, points: list[Point], maybe: int | None = None, free: Any = ()) -> None: ...

    ((amount, points, maybe, free), _) = bound(function, b'[0.00001000, [{"x": 1}], null, {"a": [1.5]}]')
    assert str(amount) == "0.00001000"
    assert points == [Point(1, 0)]
    assert maybe is None
    assert free == {"a": [1.5]}


def test_large_integers_keep_every_digit() -> None:
    ((value,), _) = bound(lambda value: None, b"[340282366920938463463374607431768211456]")
    assert value == 1 << 128


def test_keyword_only_parameters_are_taken_by_name_and_in_order() -> None:
    def function(a: int, *, b: int = 5, c: int) -> None: ...

    assert bound(function, b'{"a": 1, "c": 2}') == ((1,), {"b": 5, "c": 2})
    assert "only be given by name" in refused(function, b"[1]").message

    def optional(a: int, *, b: int = 5) -> None: ...

    assert bound(optional, b"[1]") == ((1,), {})


def test_the_context_is_given_where_it_is_asked_for() -> None:
    def first(context: CallContext, a: int) -> None: ...

    def last(a: int, *, call: CallContext) -> None: ...

    assert ParamsBinder("m", first).needs_context
    assert bound(first, b"[1]", CONTEXT) == ((CONTEXT, 1), {})
    assert bound(last, b"[1]", CONTEXT) == ((1,), {"call": CONTEXT})
    assert refused(first, b'{"context": 1, "a": 1}').code == -32602
    assert CONTEXT.connection_id == 7
    assert CONTEXT.user is None


def test_a_bad_escape_inside_params_is_a_parse_error() -> None:
    assert refused(getblock, rb'["\ud800"]').code == -32700


def test_defaults_are_the_functions_own_objects() -> None:
    default = object()

    def function(a: Any = default) -> None: ...

    assert bound(function, b"[]") == ((default,), {})

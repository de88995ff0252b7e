"""Params whose types have members, bytes, or no form in JSON."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, NamedTuple, TypedDict

import msgspec
import pytest

from dilithion_ws import RegistrationError, RpcError
from dilithion_ws.rpc.params import ParamsBinder


@dataclass
class Options:
    subtractfee: bool = False
    note: str | None = None


class Target(TypedDict, total=False):
    address: str
    amount: Decimal


class Plan(msgspec.Struct, rename={"change_to": "changeTo"}):
    targets: list[Target]
    options: Options = msgspec.field(default_factory=Options)
    change_to: str = ""
    then: Plan | None = None


class Send(msgspec.Struct, tag="send"):
    to: str


class Burn(msgspec.Struct, tag="burn"):
    amount: int


class Point(NamedTuple):
    x: int
    options: Options


def options(options: Options) -> Any: ...
def plan(plan: Plan) -> Any: ...
def step(step: Send | Burn) -> Any: ...
def steps(steps: dict[str, list[Send | Burn | None]]) -> Any: ...
def point(point: Point, pair: tuple[int, Target] = (0, {})) -> Any: ...  # type: ignore[assignment]
def hexadecimal(data: bytes, more: list[bytes] | None = None, *, kept: dict[str, bytearray] | None = None) -> Any: ...
def mixed(mixed: dict[str, Options] | list[bytes] | int) -> Any: ...
def bounded(data: Annotated[bytes, msgspec.Meta(max_length=2)]) -> Any: ...


def bind(function: Any, params: Any, ignores_surplus: bool = False) -> tuple[Any, Any]:
    return ParamsBinder(function.__name__, function, ignores_surplus).bind(json.dumps(params).encode(), None)


@pytest.mark.parametrize(
    ("function", "params", "text"),
    [
        (
            options,
            [{"substractfee": True}],
            "unknown member `substractfee` in `options`, which takes `subtractfee`, `note`",
        ),
        (options, {"options": {"x": 1}}, "unknown member `x` in `options`"),
        (
            plan,
            [{"targets": [{"adress": "D1"}]}],
            "unknown member `adress` in `plan.targets[0]`, which takes `address`",
        ),
        (plan, [{"targets": [], "change_to": "D1"}], "unknown member `change_to` in `plan`"),
        (plan, [{"targets": [], "then": {"targets": [], "then": {"y": 1}}}], "unknown member `y` in `plan.then.then`"),
        (step, [{"type": "burn", "to": "D1"}], "unknown member `to` in `step`, which takes `type`, `amount`"),
        (steps, [{"a": [None, {"type": "send", "too": "D1"}]}], "unknown member `too` in `steps.a[1]`"),
        (point, [[1, {"z": 1}]], "unknown member `z` in `point[1]`"),
        (point, [[1, {}], [5, {"amnt": 1}]], "unknown member `amnt` in `pair[1]`"),
        (mixed, [{"a": {"q": 1}}], "unknown member `q` in `mixed.a`"),
        (mixed, [["0g"]], "`mixed[0]` is not a text of hexadecimal digits"),
        (options, [{"x" * 1000: 1}], f"unknown member `{'x' * 64}` in"),
    ],
)
def test_unknown_members_are_refused(function: Any, params: Any, text: str) -> None:
    with pytest.raises(RpcError) as caught:
        bind(function, params)
    assert caught.value.code == -32602
    assert text in str(caught.value)


@pytest.mark.parametrize("params", [[{"substractfee": True}], {"options": {}, "x": 1}])
def test_a_table_that_ignores_surplus_params_ignores_these_too(params: Any) -> None:
    assert bind(options, params, ignores_surplus=True)[0] == (Options(),)


def test_known_members_are_taken_as_ever() -> None:
    whole = {
        "targets": [{"address": "D1", "amount": 0.10000000000000000001}],
        "changeTo": "D2",
        "options": {"note": "x"},
    }
    (found,), _ = bind(plan, [whole])
    assert found == Plan([{"address": "D1", "amount": Decimal("0.1")}], Options(note="x"), "D2")
    assert bind(step, [{"type": "send", "to": "D1"}])[0] == (Send("D1"),)
    assert bind(mixed, [7])[0] == (7,)
    assert bind(point, [[1, {}]])[0] == (Point(1, Options()), (0, {}))


@pytest.mark.parametrize("params", [[{"subtractfee": 1}], [5], ["x"], [[]], {"options": None}])
def test_types_are_still_validated(params: Any) -> None:
    with pytest.raises(RpcError, match="Invalid params: Expected"):
        bind(options, params)


def test_bytes_are_hexadecimal_digits() -> None:
    assert bind(hexadecimal, ["00fFab"])[0] == (b"\x00\xff\xab", None)
    assert bind(hexadecimal, ["", ["01", "02"]])[0] == (b"", [b"\1", b"\2"])
    assert bind(hexadecimal, {"data": "01", "kept": {"a": "02"}}) == ((b"\1", None), {"kept": {"a": bytearray(b"\2")}})
    assert bind(bounded, ["0102"])[0] == (b"\1\2",)
    with pytest.raises(RpcError, match="length <= 2"):
        bind(bounded, ["010203"])


@pytest.mark.parametrize("text", ["0", "0g", "00 00", "AA==", "\u0661\u0661", "0x00"])
def test_other_texts_are_no_bytes(text: str) -> None:
    with pytest.raises(RpcError, match="`data` is not a text of hexadecimal digits, two for each byte") as caught:
        bind(hexadecimal, [text])
    assert "Expected hexadecimal(data: hex string, more: array of hex string | null = null" in str(caught.value)


def test_amounts_beside_bytes_keep_their_digits() -> None:
    def pay(key: bytes, amount: Decimal) -> Any: ...

    ((_, amount), _) = ParamsBinder("pay", pay).bind(b'["00", 0.10000000000000000001]', None)
    assert str(amount) == "0.10000000000000000001"


class Model:
    """As pydantic's, which is not installed here."""

    def model_dump(self) -> dict[str, Any]:
        return {}


def of_model(value: Model) -> Any: ...
def of_models(value: list[Model] | None) -> Any: ...
def model() -> Model:
    return Model()


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (of_model, "Model can't be converted from JSON; use a dataclass"),
        (of_models, "Model can't be converted from JSON; use a dataclass"),
        (model, "a pydantic model can't be encoded; return its `model_dump"),
    ],
)
def test_types_that_json_does_not_have_are_refused_when_a_method_is_registered(function: Any, text: str) -> None:
    with pytest.raises(RegistrationError, match=text):
        ParamsBinder("m", function)


@pytest.mark.parametrize("params", [b"[NaN]", b"[1e999]", b"[Infinity]", b"[-Infinity]", b'{"value":NaN}'])
def test_numbers_that_are_not_finite_are_refused(params: bytes) -> None:
    def take(value: float) -> Any: ...

    with pytest.raises(RpcError):
        ParamsBinder("take", take).bind(params, None)


def amount(amount: Decimal) -> Any: ...
def amounts(amounts: dict[str, list[Decimal | None]]) -> Any: ...
def prices(prices: dict[Decimal, int]) -> Any: ...
def amount_and_more(amount: Decimal, more: Any) -> Any: ...


@pytest.mark.parametrize("text", ["NaN", "sNaN", "-Infinity", "1_000", " 1 ", "1\n", "0x10", "", "\u0661"])
def test_a_text_for_a_decimal_is_a_number_as_json_has_it(text: str) -> None:
    with pytest.raises(RpcError, match="`amount` is not a number"):
        bind(amount, [text])
    with pytest.raises(RpcError, match=r"`amounts.a\[1\]` is not a number"):
        bind(amounts, [{"a": [None, text]}])
    with pytest.raises(RpcError):
        bind(prices, [{text: 1}])


def test_other_numbers_beside_a_decimal_are_read_as_before() -> None:
    found, _ = ParamsBinder("m", amount_and_more).bind(b'["1", 1E-9999]', None)
    assert found == (Decimal(1), 0.0)
    assert bind(prices, [{"0.5": 1}])[0] == ({Decimal("0.5"): 1},)


@pytest.mark.parametrize("text", ["0.10", "-1E-8", "21000000"])
def test_a_decimal_keeps_the_digits_of_its_text(text: str) -> None:
    assert str(bind(amount, [text])[0][0]) == text
    assert bind(amounts, [{"a": [text]}])[0] == ({"a": [Decimal(text)]},)


# What an attack found


class Left(msgspec.Struct, array_like=True, tag="l"):
    size: int
    data: bytes


class Right(msgspec.Struct, array_like=True, tag="r"):
    data: bytes
    options: Options


def side(side: Left | Right) -> Any: ...
def anything(value: object) -> Any: ...
def keys(value: dict[bytes, int]) -> Any: ...
def nested(value: dict[str, list[Options | int]]) -> Any: ...


def test_arrays_with_a_tag() -> None:
    assert bind(side, [["l", 1, "ff"]])[0] == (Left(1, b"\xff"),)
    assert bind(side, [["r", "ff", {"note": "x"}]])[0] == (Right(b"\xff", Options(note="x")),)
    with pytest.raises(RpcError, match="unknown member `note2` in `side\\[2\\]`"):
        bind(side, [["r", "ff", {"note2": "x"}]])


def test_an_object_of_python_is_anything() -> None:
    assert bind(anything, [{"a": 1}])[0] == ({"a": 1},)


def test_bytes_are_no_keys() -> None:
    with pytest.raises(RegistrationError, match="bytes can't be the keys"):
        bind(keys, [{}])


@pytest.mark.parametrize("number", [b"1e9999999999999999999", b"1E-9999999999999999999", b"1e999"])
def test_a_number_beyond_all_bounds_is_refused(number: bytes) -> None:
    with pytest.raises(RpcError) as caught:
        ParamsBinder("options", options).bind(b'[{"note": %b}]' % number, None)
    assert caught.value.code in (-32602, -32700)


def test_a_long_name_costs_no_more_than_its_length() -> None:
    name = "x" * 200_000
    started = time.process_time()
    bind(nested, [{name: [1] * 20_000}])
    with pytest.raises(RpcError, match=r"unknown member `a` in `value\.x{64}\[20000\]`"):
        bind(nested, [{name: [*[1] * 20_000, {"a": 1}]}])
    assert time.process_time() - started < 2

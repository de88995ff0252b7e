"""Each row of the table in docs/types.md, by a function that is registered and called."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from datetime import datetime, timezone
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypedDict
from uuid import UUID

import msgspec
import pytest
from msgspec import Meta

from dilithion_ws import Limits, RpcTable, Session
from dilithion_ws.rpc.dispatcher import Dispatcher
from dilithion_ws.rpc.executor import Executor

PAGE = (Path(__file__).parent.parent.parent / "docs" / "types.md").read_text()
_ROW = re.compile(r"^\| (`.+?`)(?: \(.*\)|, or no hint)? \| `(.+?)` \| `(.+?)` \| `(.+?)` \|$", re.MULTILINE)
ROWS = [[cell.strip("`").replace("\\|", "|") for cell in row] for row in _ROW.findall(PAGE)]


class Color(Enum):
    RED = "red"


@dataclass
class Target:
    address: str
    amount: Decimal


class Options(TypedDict, total=False):
    fee: int


class Point(NamedTuple):
    x: int
    y: int


class Block(msgspec.Struct):
    height: int


NAMES: dict[str, Any] = {
    one.__name__: one for one in (Color, Target, Options, Point, Block, Decimal, UUID, Meta, datetime, timezone)
}
NAMES.update({"Annotated": Annotated, "Any": Any, "Literal": Literal})


@pytest.mark.parametrize(("hint", "param", "value", "result"), ROWS, ids=[row[0] for row in ROWS])
def test_a_row(hint: str, param: str, value: str, result: str) -> None:
    seen: list[Any] = []

    def take(value: Any) -> Any:
        seen.append(value)
        return value

    take.__annotations__ = {"value": eval(hint, NAMES)}
    take.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter("value", inspect.Parameter.POSITIONAL_OR_KEYWORD)]
    )
    rpc = RpcTable()
    rpc.register("take", take)
    call: Any = Dispatcher(rpc, Executor(Limits())).receive(
        b'{"jsonrpc":"2.0","id":1,"method":"take","params":[%b]}' % param.encode(), Session(1, ("127.0.0.1", 1))
    )
    assert call.run() == b'{"jsonrpc":"2.0","result":%b,"id":1}' % result.encode()
    (found,) = seen
    assert found == eval(value, NAMES)
    assert type(found) is type(eval(value, NAMES))


def test_the_table_has_all_rows() -> None:
    assert len(ROWS) == len(re.findall(r"^\| (?!hint|---|`CallContext`)", PAGE, re.MULTILINE)) == 21

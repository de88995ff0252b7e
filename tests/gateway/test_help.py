"""What the gateway makes of the help of a node of the Bitcoin Core family."""

from __future__ import annotations

import inspect
import json
import time
from pathlib import Path
from typing import Any, cast

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dilithion_ws import RpcError, RpcTable
from dilithion_ws.auth.permissions import UNDECLARED
from dilithion_ws.client import Client
from dilithion_ws.gateway.dialects.bitcoin_core import CORE
from dilithion_ws.gateway.dialects.core_help import method_names, parse_help
from dilithion_ws.gateway.dialects.dilithion import DILITHION
from dilithion_ws.gateway.help_reader import HelpReader
from dilithion_ws.gateway.node_client import NodeClient

from ..support import Clock
from ..support.gateways import GatewayFactory, ready
from ..support.litecoin import Litecoin, needs_litecoind
from ..support.openrpc_generator import generate
from ..support.programs import needs_node

PAGE = """
pay "address" amount ( options verbose )

Pays someone. It takes a while.

Arguments:
1. address       (string, required) Where to
                 (not a line of its own)
2. amount        (numeric or string, required) How much
3. options       (json object, optional, default={}) More
     {
       "fee": n, (numeric, optional, default=1) The fee
     }
4. verbose       (boolean, optional, default=true) Whether to say more
5. "old"         (numeric, optional, default=3) As it was written once
6. name|alias    (string, optional, default="none") Two names
7. wallet        (string, optional, default=wallet default) In words
8. thing         (something new, optional) What is unknown

Result (for verbose = false):
"hex"    (string) The id

Result (for verbose = true):
{                (json object)
}

Examples:
> cli pay
"""


def schema_of(annotation: Any) -> dict[str, Any]:
    return msgspec.json.schema(annotation)


def test_a_page() -> None:
    page = parse_help(PAGE)
    found = {
        name: (parameter.default is inspect.Parameter.empty, schema_of(parameter.annotation))
        for name, parameter in page.signature.parameters.items()
    }
    assert found == {
        "address": (True, {"type": "string", "description": "Where to"}),
        "amount": (True, {"type": ["number", "string"], "description": "How much"}),
        "options": (False, {"type": "object", "description": "More"}),
        "verbose": (False, {"type": "boolean", "default": True, "description": "Whether to say more"}),
        "old": (False, {"type": "number", "default": 3, "description": "As it was written once"}),
        "name": (False, {"type": "string", "default": "none", "description": "Two names"}),
        "wallet": (False, {"type": "string", "description": "In words"}),
        "thing": (False, {"description": "What is unknown"}),
    }
    assert schema_of(page.signature.return_annotation) == {"type": ["string", "object"]}
    assert page.text == "Pays someone. It takes a while."


@pytest.mark.parametrize(
    ("result", "schema"),
    [
        ("null    (json null)", {"type": "null"}),
        ("n    (numeric) The count", {"type": "number"}),
        ("true|false    (boolean) Whether", {"type": "boolean"}),
        ("[    (json array)", {"type": "array"}),
        ("something else", {}),
        ("", {}),
    ],
)
def test_results(result: str, schema: dict[str, Any]) -> None:
    page = parse_help(f"m\n\nText\n\nResult:\n{result}\n\nExamples:\n")
    assert schema_of(page.signature.return_annotation) == schema
    assert schema_of(parse_help("m").signature.return_annotation) == {}


@given(st.text() | st.lists(st.sampled_from(PAGE.splitlines())).map("\n".join))
def test_no_page_is_an_error(page: str) -> None:
    assert isinstance(parse_help(page).signature, inspect.Signature)
    method_names(page)


def test_the_overview() -> None:
    assert method_names('== Control ==\nhelp ( "command" )\nstop\n\n== New ==\nget_new_thing\n') == [
        "help",
        "stop",
        "get_new_thing",
    ]


class Node:
    """Answers as a node would."""

    def __init__(self) -> None:
        self.dialect: Any = CORE
        self.version = "/Core:1/"
        self.calls: list[str] = []
        self.failure: RpcError | None = None
        self.names = "pay\nodd\nmore"
        self.odd: str | None = None

    def call(self, method: str, params: bytes, timeout: float) -> msgspec.Raw:
        self.calls.append(method)
        if self.failure is not None:
            raise self.failure
        answer = self.names if method == "help" else {"subversion": self.version}
        return msgspec.Raw(json.dumps(answer).encode())

    def batch(self, calls: Any, timeout: float) -> list[Any]:
        self.calls.append("batch")
        page = msgspec.Raw(json.dumps(PAGE).encode())
        odd = RpcError(-1, "no") if self.odd is None else msgspec.Raw(self.odd.encode())
        return [odd if b"odd" in params else page for _, params in calls]


class Trial:
    """A reader, with the table that it describes."""

    def __init__(self) -> None:
        self.node, self.rpc, self.clock = Node(), RpcTable(), Clock()
        self.rpc.fallback(lambda context, params: None, {"pay": "READ_WALLET", "gone": None})
        self.help = HelpReader(cast(NodeClient, self.node), self.rpc, 1.0, self.clock)

    def refresh(self, seconds: float = 0.0) -> None:
        self.clock.now += seconds
        self.help.refresh()


def test_the_help_is_read_once_for_each_version() -> None:
    trial = Trial()
    for seconds in (0.0, 1.0, 60.0, 60.0):
        trial.refresh(seconds)
    assert trial.node.calls == ["getnetworkinfo", "help", "batch", "getnetworkinfo", "getnetworkinfo"]
    methods = trial.rpc.methods()
    assert {name for name, method in methods.items() if method.is_described} == {"pay", "more"}
    assert methods["pay"].permission == "READ_WALLET"
    assert methods["pay"].summary == "Pays someone"
    trial.node.version, revision = "/Core:2/", trial.rpc.revision
    trial.refresh(60)
    assert trial.rpc.revision == revision + 1


def test_a_described_method_without_a_declared_permission_is_for_admins() -> None:
    """Although the table of Dilithion's own methods may have its name."""
    trial = Trial()
    trial.node.names = "pay\nexportmnemonic\nclaimhtlc"
    trial.refresh()
    for name in ("exportmnemonic", "claimhtlc"):
        assert trial.rpc.methods()[name].required_rights == UNDECLARED
    trial.node.names, trial.node.version = "pay", "/Core:2/"
    trial.refresh(60)
    assert set(trial.rpc.methods()) == {"pay", "gone", "*"}, "what another version had is forgotten"


def test_what_cannot_be_read_is_tried_again() -> None:
    trial = Trial()
    trial.node.failure = RpcError(-28, "Loading block index")
    trial.refresh()
    trial.refresh(1)
    assert trial.node.calls == ["getnetworkinfo"]
    assert trial.rpc.revision == 0
    trial.node.failure = None
    trial.refresh(5)
    assert trial.rpc.revision == 1


@pytest.mark.parametrize("page", ["null", "5", "[]", '"\\ud800"', "{}"])
def test_a_page_that_is_none_costs_only_its_method(page: str) -> None:
    trial = Trial()
    trial.node.odd = page
    trial.refresh()
    assert {name for name, method in trial.rpc.methods().items() if method.is_described} == {"pay", "more"}


def test_odd_defaults_and_names_are_left_out() -> None:
    lines = ["from", "class", "None", "2fa", "x" * 65, "a"]
    page = "m\n\nArguments:\n" + "\n".join(
        f"{at}. {name}  (numeric, optional, default={default}) Text"
        for at, (name, default) in enumerate(zip(lines, ["1", "2", "3", "4", "5", "NaN"], strict=True), 1)
    )
    signature = parse_help(page).signature
    assert list(signature.parameters) == ["a"]
    assert "default" not in schema_of(signature.parameters["a"].annotation)
    for default in ("Infinity", "-Infinity", "1e999", "[1", '"\\ud800"'):
        found = parse_help(f"m\n\nArguments:\n1. a (numeric, optional, default={default}) Text\n").signature
        assert "default" not in schema_of(found.parameters["a"].annotation)


def test_a_huge_page_is_read_in_time_and_in_part() -> None:
    page = "m\n\nArguments:\n" + "".join(f"{at}. p{at} (string, required) {'x' * 50}\n" for at in range(50_000))
    started = time.monotonic()
    assert len(parse_help(page).signature.parameters) == 100
    assert time.monotonic() - started < 5
    assert len(method_names("\n".join(f"m{at}" for at in range(5000)))) == 1000


def test_only_core_has_this_help() -> None:
    trial = Trial()
    for dialect in (None, DILITHION):
        trial.node.dialect = dialect
        trial.refresh()
    assert trial.node.calls == []


@needs_litecoind
def test_the_document_of_a_gateway_is_true(litecoin: Litecoin, gateways: GatewayFactory) -> None:
    """Every method that reads, with what it needs, against the schemas of the document."""
    litecoin.call("createwallet", "w")
    address = litecoin.call("getnewaddress")
    litecoin.call("generatetoaddress", 101, address)
    block = litecoin.call("getbestblockhash")
    txid = litecoin.call("getblock", block)["tx"][0]
    given = {
        "blockhash": block,
        "block_hash": block,
        "hash_or_height": 5,
        "height": 5,
        "txid": txid,
        "address": address,
    }
    given |= {"n": 0, "verbose": True, "conf_target": 6, "label": "", "nblocks": 10}
    gateway = ready(gateways(litecoin.url, upstream_cookie=str(litecoin.cookie)))
    checked, refused = 0, []
    with Client(gateway.server.url) as client:
        document = client.call("rpc.discover")
        by_name = {method["name"]: method for method in document["methods"]}
        assert not {"getdeploymentinfo", "getchainstates"} & by_name.keys(), "this version has no such methods"
        assert by_name["getblock"]["params"][1]["schema"]["default"] == 1
        for name, method in by_name.items():
            if not name.startswith(("get", "list", "validate", "decode", "uptime", "estimate", "help")):
                continue
            needed = [param for param in method["params"] if param["required"]]
            if any(param["name"] not in given for param in needed):
                continue
            params = [given[param["name"]] for param in needed]
            for value, param in zip(params, needed, strict=True):
                jsonschema.validate(value, param["schema"])
            try:
                result = client.request(name, params)
            except RpcError as error:
                refused.append((name, error.message))
                continue
            jsonschema.validate(result, method["result"]["schema"])
            checked += 1
    assert checked > 45, refused


@needs_litecoind
@needs_node
def test_a_client_is_generated_that_compiles(tmp_path: Path, litecoin: Litecoin, gateways: GatewayFactory) -> None:
    gateway = ready(gateways(litecoin.url, upstream_cookie=str(litecoin.cookie)))
    with Client(gateway.server.url) as client:
        text = generate(client.call("rpc.discover"), tmp_path)
    assert "export type GetblockBlockhash = string;" in text
    assert "public getblock: Getblock" in text

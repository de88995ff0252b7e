"""What the gateway makes of the help of a node of the Bitcoin Core family."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any, cast

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dilithion_ws import RpcError, RpcTable
from dilithion_ws.client import Client
from dilithion_ws.gateway.dialects.bitcoin_core import CORE
from dilithion_ws.gateway.dialects.core_help import method_names, parse_help
from dilithion_ws.gateway.dialects.dilithion import DILITHION
from dilithion_ws.gateway.help_reader import HelpReader
from dilithion_ws.gateway.node_client import NodeClient

from ..support import wait_for
from ..support.gateways import GatewayFactory
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

    def call(self, method: str, params: bytes, timeout: float) -> msgspec.Raw:
        self.calls.append(method)
        if self.failure is not None:
            raise self.failure
        answer = "pay\nodd\nmore" if method == "help" else {"subversion": self.version}
        return msgspec.Raw(json.dumps(answer).encode())

    def batch(self, calls: Any, timeout: float) -> list[Any]:
        self.calls.append("batch")
        page = msgspec.Raw(json.dumps(PAGE).encode())
        return [RpcError(-1, "no") if b"odd" in params else page for _, params in calls]


def reader(node: Node) -> tuple[HelpReader, RpcTable]:
    rpc = RpcTable()
    rpc.fallback(lambda context, params: None, {"pay": "READ_WALLET", "gone": None})
    return HelpReader(cast(NodeClient, node), rpc, 1.0), rpc


def test_the_help_is_read_once_for_each_version() -> None:
    node = Node()
    help, rpc = reader(node)
    for _ in range(3):
        help.step(False)
    assert node.calls == ["getnetworkinfo", "help", "batch", "getnetworkinfo", "getnetworkinfo"]
    methods = rpc.methods()
    assert {name for name, method in methods.items() if method.is_described} == {"pay", "more"}
    assert methods["pay"].permission == "READ_WALLET"
    assert methods["pay"].summary == "Pays someone"
    node.version, revision = "/Core:2/", rpc.revision
    help.step(False)
    assert rpc.revision == revision + 1


def test_what_cannot_be_read_is_tried_again() -> None:
    node = Node()
    help, rpc = reader(node)
    node.failure = RpcError(-28, "Loading block index")
    assert help.step(False) is not None
    assert rpc.revision == 0
    node.failure = None
    help.step(False)
    assert rpc.revision == 1


def test_only_core_has_this_help() -> None:
    node = Node()
    help, _ = reader(node)
    node.dialect = None
    assert help.step(False) is not None
    node.dialect = DILITHION
    assert help.step(False) is None
    assert node.calls == []


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
    gateway = gateways(litecoin.url, upstream_cookie=str(litecoin.cookie))
    wait_for(lambda: gateway.rpc.revision, 20, "the node's help")
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
    gateway = gateways(litecoin.url, upstream_cookie=str(litecoin.cookie))
    with Client(gateway.server.url) as client:
        wait_for(lambda: gateway.rpc.revision, 20, "the node's help")
        text = generate(client.call("rpc.discover"), tmp_path)
    assert "export type GetblockBlockhash = string;" in text
    assert "public getblock: Getblock" in text

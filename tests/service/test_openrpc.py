"""The OpenRPC document: what it says of methods, whom it says it to, and that the standard's own schema accepts it."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import jsonschema
from referencing import Registry
from referencing.jsonschema import DRAFT7

from dilithion_ws import RpcTable, WebSocketServer
from dilithion_ws.devnode import DevNode
from dilithion_ws.devnode.methods import register_methods

from ..support.fixtures import ClientFactory, ServerFactory
from ..support.http import authorization, request
from ..support.programs import NODE_MODULES, needs_node
from ..support.subscriptions import block, subscribe


def test_the_description_follows_the_rights(guarded: WebSocketServer) -> None:
    def described(name: str) -> Any:
        status, _, body = request(guarded, "GET", "/openrpc.json", None, authorization(name))
        assert status == 200
        return json.loads(body)

    assert request(guarded, "GET", "/openrpc.json")[0] == 401
    reader, root = described("reader"), described("root")
    names = {method["name"] for method in reader["methods"]}
    assert {"getblockcount", "getbalance", "subscribe", "authenticate"} <= names
    assert not [name for name in names if "." in name]
    assert not {"sendtoaddress", "echo"} & names
    assert {"sendtoaddress", "echo"} <= {method["name"] for method in root["methods"]}
    assert {topic["name"] for topic in reader["x-topics"]} == {"blocks", "mempool", "peers", "mining"}
    add = next(method for method in root["methods"] if method["name"] == "add")
    assert add["summary"] == "Add two numbers"
    assert add["params"] == [
        {"name": "a", "required": True, "schema": {"title": "add_a", "type": "integer"}},
        {"name": "b", "required": False, "schema": {"title": "add_b", "type": "integer", "default": 2}},
    ]
    assert add["result"] == {"name": "result", "schema": {"title": "add_result", "type": "integer"}}


def test_the_same_by_the_call_rpc_discover(start: ServerFactory, connect: ClientFactory) -> None:
    server = start()
    by_call = connect(server).call("rpc.discover")["result"]
    assert by_call == json.loads(request(server, "GET", "/openrpc.json")[2])
    assert by_call["openrpc"].startswith("1.")
    check_openrpc(by_call)


def check_openrpc(document: Any) -> None:
    """What the OpenRPC meta-schema demands, in so many words."""
    assert set(document) <= {"openrpc", "info", "methods", "components"} | {
        name for name in document if name[:2] == "x-"
    }
    assert set(document["info"]) >= {"title", "version"}
    names = [method["name"] for method in document["methods"]]
    assert len(names) == len(set(names))
    for method in document["methods"]:
        assert {"name", "params", "result"} <= set(method)
        assert method["paramStructure"] in ("either", "by-name", "by-position")
        for item in [*method["params"], method["result"]]:
            assert {"name", "schema"} <= set(item)
        required = [item["required"] for item in method["params"]]
        assert required == sorted(required, reverse=True), "those that may be left out come last"


@needs_node
def test_the_standards_own_schema_accepts_it(start: ServerFactory) -> None:
    """The meta-schema of OpenRPC, in the words of its package for Node; its schemas are JSON Schema's draft 7."""
    found = subprocess.run(
        ["node", "-p", "JSON.stringify(require('@open-rpc/meta-schema').openrpcDocument)"],
        env={**os.environ, "NODE_PATH": str(NODE_MODULES)},
        capture_output=True,
        timeout=30,
        check=True,
    )
    draft7 = DRAFT7.create_resource(jsonschema.Draft7Validator.META_SCHEMA)
    registry = Registry().with_resources([(f"https://meta.json-schema.tools{end}", draft7) for end in ("", "/")])
    validator = jsonschema.Draft7Validator(json.loads(found.stdout), registry=registry)

    table = RpcTable()
    register_methods(table, DevNode(seed=1, mining=False), lambda: None)
    document = json.loads(request(start(table), "GET", "/openrpc.json")[2])
    assert len(document["methods"]) > 50
    assert [error.message for error in validator.iter_errors(document)] == []
    for topic in document["x-topics"]:
        jsonschema.Draft202012Validator.check_schema(topic["schema"])
    document["methods"][0]["params"][0:0] = [{"name": "of no type"}]
    assert list(validator.iter_errors(document)), "it would have seen a fault"


def test_what_has_no_schema_is_described_without_one(start: ServerFactory, rpc: RpcTable) -> None:
    """A type that JSON Schema cannot express, and a default that JSON cannot."""
    rpc.register("odd", lambda value=object(): value)  # noqa: B008

    @rpc.method
    def odder() -> complex:
        return 1j

    document = json.loads(request(start(), "GET", "/openrpc.json")[2])
    described = {method["name"]: method for method in document["methods"]}
    assert described["odd"]["params"] == [{"name": "value", "required": False, "schema": {}}]
    assert described["odder"]["result"] == {"name": "result", "schema": {}}


@dataclass
class Balance:
    amount: Decimal
    unconfirmed: Decimal | None = None


def test_money_is_a_number(start: ServerFactory, rpc: RpcTable) -> None:
    @rpc.method
    def pay(amount: Decimal, fees: list[Decimal], *, change: Decimal | None = None) -> Balance:
        """Pay.

        Args:
            amount (Decimal): coins, with at most
                eight decimals.
            fees, change: likewise.

        Returns:
            what is left.
        """
        return Balance(amount)

    document = json.loads(request(start(), "GET", "/openrpc.json")[2])
    (described,) = [method for method in document["methods"] if method["name"] == "pay"]
    amount, fees, change = described["params"]
    assert amount["schema"] == {"title": "pay_amount", "type": ["number", "string"]}
    assert amount["description"] == "coins, with at most eight decimals."
    assert fees["schema"]["items"] == {"type": ["number", "string"]}
    assert fees["description"] == change["description"] == "likewise."
    assert described["paramStructure"] == "by-name"
    balance = document["components"]["schemas"][described["result"]["schema"]["$ref"].rpartition("/")[2]]
    assert balance["properties"]["amount"] == {"type": "number"}


def test_the_host_sets_title_and_version(start: ServerFactory) -> None:
    rpc = RpcTable(title="My node", version="2.5")
    document = json.loads(request(start(rpc), "GET", "/openrpc.json")[2])
    assert document["info"] == {"title": "My node", "version": "2.5"}


def test_what_is_sent_fits_what_is_described(start: ServerFactory, connect: ClientFactory) -> None:
    """All methods of the development node that need no params, and the events of all topics as they happen."""
    table = RpcTable(ignores_surplus_params=True)
    node = DevNode(seed=1, mining=True)
    server = start(table)
    register_methods(table, node, lambda: None)
    server.stop(1.0)
    server.history("blocks", node.read_blocks, node.find_block)
    server.transactions(node.read_transactions, node.read_mempool)
    node.publish = server.publish
    server.start()
    document = json.loads(request(server, "GET", "/openrpc.json")[2])
    schemas = {"components": document["components"]}
    client, checked = connect(server), 0
    for method in document["methods"]:
        if method["name"].startswith(("get", "list")) and not any(param["required"] for param in method["params"]):
            answer = client.call(method["name"])
            if "result" in answer:
                validator = jsonschema.Draft202012Validator({**method["result"]["schema"], **schemas})
                assert [error.message for error in validator.iter_errors(answer["result"])] == [], method["name"]
                checked += 1
    assert checked > 20
    notifications = {params[1]["schema"]["const"]: params for params in
                     (one["params"] for one in document["x-notifications"])}  # fmt: skip
    watcher = connect(server)
    for topic in ("blocks", "mempool", "peers", "mining"):
        subscribe(watcher, topic)
    address = node.wallet.new_address()
    subscribe(watcher, "transactions", filter={"address": address, "confirmations": 2})
    tx, _ = node.others.build(address, 5_000_000)
    node.submit(tx)
    for _ in range(20):
        node.step()
    server.publish("blocks", {**block(1), "kind": "disconnected"})
    seen: set[str] = set()
    while not seen >= {"blocks", "mempool", "mining", "transactions"}:
        message = watcher.answer()
        for one in message if isinstance(message, list) else [message]:
            params = {param["name"]: param for param in notifications[one["params"]["topic"]]}
            for name, value in one["params"].items():
                validator = jsonschema.Draft202012Validator({**params[name]["schema"], **schemas})
                assert [error.message for error in validator.iter_errors(value)] == []
            seen.add(one["params"]["topic"])


def test_the_document_is_made_once_until_a_method_is_registered(start: ServerFactory, rpc: RpcTable) -> None:
    server = start()
    first = request(server, "GET", "/openrpc.json")[2]
    assert request(server, "GET", "/openrpc.json")[2] == first
    rpc.register("late", lambda: 1)
    later = json.loads(request(server, "GET", "/openrpc.json")[2])
    assert "late" in {method["name"] for method in later["methods"]}

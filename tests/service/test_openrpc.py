"""The OpenRPC document: what it says of methods, whom it says it to, and that the standard's own schema accepts it."""

from __future__ import annotations

import json
import os
import subprocess
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


def test_the_description_follows_the_rights(guarded: WebSocketServer) -> None:
    def described(name: str) -> Any:
        status, _, body = request(guarded, "GET", "/openrpc.json", None, authorization(name))
        assert status == 200
        return json.loads(body)

    assert request(guarded, "GET", "/openrpc.json")[0] == 401
    reader, root = described("reader"), described("root")
    names = {method["name"] for method in reader["methods"]}
    assert {"getblockcount", "getbalance", "subscribe", "rpc.discover", "authenticate"} <= names
    assert not {"sendtoaddress", "echo"} & names
    assert {"sendtoaddress", "echo"} <= {method["name"] for method in root["methods"]}
    assert {topic["name"] for topic in reader["x-topics"]} == {"blocks", "mempool", "peers", "mining"}
    add = next(method for method in root["methods"] if method["name"] == "add")
    assert add["summary"] == "Add two numbers"
    assert add["params"] == [
        {"name": "a", "required": True, "schema": {"type": "integer"}},
        {"name": "b", "required": False, "schema": {"type": "integer", "default": 2}},
    ]
    assert add["result"] == {"name": "result", "schema": {"type": "integer"}}


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
    def odder(value: complex = 1j) -> complex:
        return value

    document = json.loads(request(start(), "GET", "/openrpc.json")[2])
    described = {method["name"]: method for method in document["methods"]}
    assert described["odd"]["params"] == [{"name": "value", "required": False, "schema": {}}]
    assert described["odder"]["result"] == {"name": "result", "schema": {}}


def test_the_document_is_made_once_until_a_method_is_registered(start: ServerFactory, rpc: RpcTable) -> None:
    server = start()
    first = request(server, "GET", "/openrpc.json")[2]
    assert request(server, "GET", "/openrpc.json")[2] == first
    rpc.register("late", lambda: 1)
    later = json.loads(request(server, "GET", "/openrpc.json")[2])
    assert "late" in {method["name"] for method in later["methods"]}

"""`dilithion-ws types`: a module for TypeScript from the OpenRPC document of a server."""

from __future__ import annotations

from typing import Any

import pytest

from dilithion_ws import RpcTable
from dilithion_ws.cli import main
from dilithion_ws.cli.typescript import typescript_of

from ..support import free_port
from ..support.fixtures import ServerFactory


def document(*methods: dict[str, Any], **others: Any) -> dict[str, Any]:
    return {"info": {"title": "A node", "version": "1"}, "methods": list(methods), **others}


def method(name: str, *params: dict[str, Any], result: Any = True, **others: Any) -> dict[str, Any]:
    return {"name": name, "params": list(params), "result": {"name": "result", "schema": result}, **others}


def param(name: str, schema: Any, required: bool = True) -> dict[str, Any]:
    return {"name": name, "schema": schema, "required": required}


def result_type(schema: Any) -> str:
    text = typescript_of(document(method("m", result=schema)))
    (line,) = (line for line in text.splitlines() if line.startswith("  m: "))
    return line.partition("; result: ")[2].removesuffix(" };")


def test_the_types_of_a_server_are_printed(start: ServerFactory, capsys: pytest.CaptureFixture[str]) -> None:
    table = RpcTable()

    @table.method
    def plus(a: int, b: int = 0) -> int:
        return a + b

    assert main(["types", "--url", start(table).url]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "  plus: { params: [a: number, b?: number] | { a: number; b?: number }; result: number };\n" in captured.out
    assert "export interface Topics {\n  blocks: " in captured.out


def test_without_a_server_an_error_is_printed_and_no_types(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["types", "--url", f"ws://127.0.0.1:{free_port()}"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("dilithion-ws: ")


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        (True, "any"),
        ({}, "any"),
        ({"type": "integer"}, "number"),
        ({"type": ["string", "null"]}, "string | null"),
        ({"type": ["integer", "number"]}, "number"),
        ({"const": "a"}, '"a"'),
        ({"enum": ["a", 1, None]}, '"a" | 1 | null'),
        ({"anyOf": [{"type": "boolean"}, {"$ref": "#/components/schemas/a.b"}]}, "boolean | a_b"),
        ({"oneOf": [{"type": "null"}]}, "null"),
        ({"type": "array", "items": {"enum": [1, 2]}}, "(1 | 2)[]"),
        ({"type": "array"}, "(any)[]"),
        ({"type": "array", "prefixItems": [{"type": "string"}, {}]}, "[string, any]"),
        ({"type": "object"}, "Record<string, any>"),
        ({"type": "object", "additionalProperties": {"type": "number"}}, "Record<string, number>"),
        (
            {"type": "object", "properties": {"a": {"type": "string"}, "b-c": {}}, "required": ["a"]},
            '{ a: string; "b-c"?: any }',
        ),
    ],
)
def test_a_schema_becomes_a_type(schema: Any, expected: str) -> None:
    assert result_type(schema) == expected


def test_params_are_typed_by_position_and_by_name() -> None:
    text = typescript_of(document(method("m", param("a", {"type": "string"}), param("b-c", {"type": "number"}, False))))
    assert '  m: { params: [a: string, param1?: number] | { a: string; "b-c"?: number }; result: any };\n' in text


def test_params_that_are_passed_by_name_only_have_no_positions() -> None:
    text = typescript_of(document(method("m", param("a", {"type": "string"}), paramStructure="by-name")))
    assert "  m: { params: { a: string }; result: any };\n" in text


def test_a_method_without_params_takes_an_empty_object_too() -> None:
    assert "  m: { params: [] | Record<string, never>; result: any };\n" in typescript_of(document(method("m")))


def test_text_of_the_host_ends_no_comment() -> None:
    summary = "Ends */ here\nand goes on"
    schemas = {"a.b": {"type": "string", "description": "An */ end\nof it"}}
    text = typescript_of(document(method("m", summary=summary), components={"schemas": schemas}))
    assert "  /** Ends * / here and goes on */\n" in text
    assert "/** An * / end */\nexport type a_b = string;\n" in text


def test_topics_are_typed_by_their_events() -> None:
    topics = [{"name": "a", "schema": {"type": "string"}}, {"name": "b/c"}]
    assert typescript_of(document(**{"x-topics": topics})).endswith(
        'export interface Topics {\n  a: string;\n  "b/c": any;\n}\n'
    )

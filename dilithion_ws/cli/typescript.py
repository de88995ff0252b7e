"""Types for TypeScript from an OpenRPC document: of methods and topics, for the client in `javascript/`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

__all__ = ["typescript_of"]

_IDENTIFIER = re.compile(r"[A-Za-z_$][\w$]*")
_REFERENCE = "#/components/schemas/"
_PLAIN = {"string": "string", "integer": "number", "number": "number", "boolean": "boolean", "null": "null"}


def typescript_of(document: Mapping[str, Any]) -> str:
    """Return a module with the interfaces `Methods` and `Topics`, and the types that they use.

    Args:
        document: as `rpc.discover` returns it.
    """
    info = document["info"]
    parts = [f"// Types of {_comment(info['title'])} {_comment(info['version'])}. Made by `dilithion-ws types`.\n"]
    for name, schema in document.get("components", {}).get("schemas", {}).items():
        parts.append(f"{_documentation(schema)}export type {_type_name(name)} = {_type(schema)};\n")
    methods = [_method(method) for method in document["methods"]]
    parts.append("export interface Methods {\n" + "".join(methods) + "}\n")
    topics = [f"  {_key(topic['name'])}: {_type(topic.get('schema', {}))};\n" for topic in document.get("x-topics", [])]
    parts.append("export interface Topics {\n" + "".join(topics) + "}\n")
    return "\n".join(parts)


def _method(method: Mapping[str, Any]) -> str:
    params = method["params"]
    required = [param["required"] for param in params]
    by_position = ", ".join(
        f"{_label(param['name'], index)}{'' if param['required'] else '?'}: {_type(param['schema'])}"
        for index, param in enumerate(params)
    )
    by_name = "; ".join(
        f"{_key(param['name'])}{'' if param['required'] else '?'}: {_type(param['schema'])}" for param in params
    )
    forms = [f"[{by_position}]"] if method.get("paramStructure") != "by-name" else []
    if params:
        forms.append(f"{{ {by_name} }}")
    elif not required:
        forms.append("Record<string, never>")
    summary = f"  /** {_comment(method['summary'])} */\n" if method.get("summary") else ""
    result = _type(method["result"]["schema"])
    return f"{summary}  {_key(method['name'])}: {{ params: {' | '.join(forms)}; result: {result} }};\n"


def _type(schema: Any) -> str:
    """Return the type of a JSON schema; `any` for what it does not say."""
    if not isinstance(schema, Mapping):
        return "any"
    if "$ref" in schema:
        return _type_name(str(schema["$ref"]).removeprefix(_REFERENCE))
    if "const" in schema:
        return json.dumps(schema["const"])
    if "enum" in schema:
        return _union(json.dumps(value) for value in schema["enum"])
    for name in ("anyOf", "oneOf"):
        if name in schema:
            return _union(_type(one) for one in schema[name])
    kind = schema.get("type")
    if isinstance(kind, list):
        return _union(_type({**schema, "type": one}) for one in kind)
    if kind == "array":
        if "prefixItems" in schema:
            return f"[{', '.join(_type(item) for item in schema['prefixItems'])}]"
        return f"({_type(schema.get('items', {}))})[]"
    if kind == "object":
        return _object(schema)
    return _PLAIN.get(str(kind), "any")


def _object(schema: Mapping[str, Any]) -> str:
    required = set(schema.get("required", ()))
    members = [
        f"{_key(name)}{'' if name in required else '?'}: {_type(member)}"
        for name, member in schema.get("properties", {}).items()
    ]
    if members:
        return f"{{ {'; '.join(members)} }}"
    others = schema.get("additionalProperties", {})
    return f"Record<string, {_type(others)}>"


def _union(types: Any) -> str:
    return " | ".join(dict.fromkeys(types))


def _key(name: str) -> str:
    return name if _IDENTIFIER.fullmatch(name) else json.dumps(name)


def _label(name: str, index: int) -> str:
    return name if _IDENTIFIER.fullmatch(name) else f"param{index}"


def _type_name(name: str) -> str:
    return re.sub(r"\W", "_", name)


def _documentation(schema: Mapping[str, Any]) -> str:
    text = str(schema.get("description", "")).strip().partition("\n")[0]
    return f"/** {_comment(text)} */\n" if text else ""


def _comment(text: str) -> str:
    """Return a text that ends no comment."""
    return " ".join(str(text).split()).replace("*/", "* /")

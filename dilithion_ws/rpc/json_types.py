"""Types and errors in the terms of JSON, for people who do not write Python."""

from __future__ import annotations

import inspect
import json
import re
from typing import Any

import msgspec

from ..util.json import encode_json

__all__ = ["in_json_terms", "json_type", "shown_parameter"]

_MOST_MEMBERS = 8
_NAMES = {"str": "string", "int": "integer", "float": "number", "bool": "boolean", "decimal": "number", "null": "null"}
_NAMED = re.compile(r"`(\w+(?: \| \w+)*)`")


def json_type(kind: Any) -> str:
    """Return what a parameter with a type hint takes: `string`, `array of integer`, `"main" | "test"`."""
    try:
        (schema,), components = msgspec.json.schema_components([kind], ref_template="{name}")
    except Exception:
        return "any"
    return _shown(schema, components, 2)


def _shown(schema: Any, components: dict[str, Any], depth: int) -> str:
    if "$ref" in schema and depth:
        return _shown(components.get(schema["$ref"], {}), components, depth - 1)
    if "enum" in schema:
        return " | ".join(json.dumps(value) for value in schema["enum"][:_MOST_MEMBERS])
    if "const" in schema:
        return json.dumps(schema["const"])
    if "anyOf" in schema:
        return " | ".join(dict.fromkeys(_shown(one, components, depth) for one in schema["anyOf"]))
    if schema.get("format") == "decimal":
        return "number"
    if schema.get("contentEncoding") == "base64":  # msgspec's words for bytes
        return "hex string"
    if schema.get("type") == "array" and schema.get("items"):
        return f"array of {_shown(schema['items'], components, depth)}"
    if schema.get("properties") and depth:
        names = [f"{name}: {_shown(one, components, 0)}" for name, one in schema["properties"].items()]
        return f"{{{', '.join(names[:_MOST_MEMBERS])}{', …' if len(names) > _MOST_MEMBERS else ''}}}"
    limits = [f"{sign} {schema[name]}" for name, sign in (("minimum", "≥"), ("maximum", "≤")) if name in schema]
    return " ".join([str(schema.get("type", "any")), *limits])


def shown_parameter(parameter: inspect.Parameter) -> str:
    """Return name, type and default of a parameter: `verbosity: integer = 1`."""
    text = f"{parameter.name}: {json_type(parameter.annotation)}"
    if parameter.default is inspect.Parameter.empty:
        return text
    try:
        return f"{text} = {encode_json(parameter.default).decode()}"
    except Exception:
        return f"{text} = …"


def in_json_terms(text: str) -> str:
    """Return a message of msgspec with the names of JSON's types: `string` and not `str`."""
    return _NAMED.sub(lambda found: "`" + " | ".join(_NAMES.get(one, one) for one in found[1].split(" | ")) + "`", text)

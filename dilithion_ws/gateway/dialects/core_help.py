"""What the help of a node of the Bitcoin Core family says of its methods, as signatures for `rpc.discover`. No I/O.

A page of the help is text for people, and has had this form since version 0.17:

    getblock "blockhash" ( verbosity )

    If verbosity is 0, returns …

    Arguments:
    1. blockhash    (string, required) The block hash
    2. verbosity    (numeric, optional, default=1) 0 for hex-encoded data, …

    Result (for verbosity = 0):
    "hex"    (string) A string that is …

What is not understood is described as anything: a wrong schema would be worse than a wide one.
"""

from __future__ import annotations

import inspect
import keyword
import re
from collections.abc import Iterator
from typing import Annotated, Any, NamedTuple

import msgspec

__all__ = ["MethodHelp", "method_names", "parse_help"]

_MOST_TEXT = 2000
_MOST_PARAMS = 100
_MOST_METHODS = 1000
_NAME = re.compile(r"[A-Za-z0-9_]{1,64}", re.ASCII)
_decode = msgspec.json.Decoder().decode  # which refuses what JSON cannot have, such as NaN
_PARAM = re.compile(r"^\d+\. \"?(\w+)(?:\|\w+)*\"?\s+\((.*?)\)\s*(.*)$")
_HEADING = re.compile(r"^(Arguments|Results?|Examples)\b.*:\s*$")
_DEFAULT = re.compile(r"default=(.*)$")
_TYPES = {
    "numeric": "number",
    "string": "string",
    "boolean": "boolean",
    "json array": "array",
    "array": "array",
    "json object": "object",
    "object": "object",
}
_RESULTS = (
    ("{", "object"),
    ("[", "array"),
    ("(string", "string"),
    ("(numeric", "number"),
    ("(boolean", "boolean"),
    ("(json null", "null"),
    ("None", "null"),
)


class MethodHelp(NamedTuple):
    """One page of the help.

    Attributes:
        signature: the parameters, and the result; each annotation has a JSON Schema.
        text: the description.
    """

    signature: inspect.Signature
    text: str


def method_names(overview: str) -> list[str]:
    """Return the names of the methods that the help without an argument lists."""
    lines = (line.split(maxsplit=1) for line in overview.splitlines() if not line.startswith("=="))
    return [words[0] for words in lines if words and _NAME.fullmatch(words[0])][:_MOST_METHODS]


def parse_help(page: str) -> MethodHelp:
    """Return what a page says. Raise ValueError if it cannot be passed on."""
    page.encode()  # raises for half a surrogate pair
    usage, _, rest = page.strip().partition("\n")
    sections = list(_sections(rest))
    parameters = [
        parameter for heading, lines in sections if heading == "Arguments" for parameter in _parameters(lines)
    ]
    results = [lines for heading, lines in sections if heading.startswith("Result")]
    annotation = _annotated(_result_schema(results), "")
    text = " ".join(sections[0][1]).strip() if sections and not sections[0][0] else ""
    return MethodHelp(
        inspect.Signature(_in_order(parameters), return_annotation=annotation), text[:_MOST_TEXT] or usage
    )


def _sections(text: str) -> Iterator[tuple[str, list[str]]]:
    """Yield headings with their lines. That of the description is empty."""
    heading, lines = "", list[str]()
    for line in text.splitlines():
        found = _HEADING.match(line)
        if found:
            yield heading, lines
            heading, lines = found[1], []
        else:
            lines.append(line)
    yield heading, lines


def _parameters(lines: list[str]) -> Iterator[inspect.Parameter]:
    for line in lines:
        found = _PARAM.match(line)
        if not found:
            continue
        name, facts, text = found.groups()
        if not _NAME.fullmatch(name) or not name.isidentifier() or keyword.iskeyword(name):
            continue
        kind, *others = (fact.strip() for fact in facts.split(","))
        schema = _schema(_TYPES.get(one.strip()) for one in re.split(r" or |/", kind))
        default = _DEFAULT.search(facts)
        value = _json_or_none(default[1].strip()) if default is not None else None
        if _has_type(value, schema):
            schema["default"] = value
        yield inspect.Parameter(
            name,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            default=inspect.Parameter.empty if "required" in others else ...,  # `...` marks a default that is not told
            annotation=_annotated(schema, text[:_MOST_TEXT]),
        )


def _in_order(parameters: list[inspect.Parameter]) -> list[inspect.Parameter]:
    """Return parameters as Python allows them: each name once, and none required after an optional one."""
    found: dict[str, inspect.Parameter] = {}
    is_optional = False
    for parameter in parameters[:_MOST_PARAMS]:
        is_optional = is_optional or parameter.default is not inspect.Parameter.empty
        found.setdefault(parameter.name, parameter.replace(default=...) if is_optional else parameter)
    return list(found.values())


def _result_schema(results: list[list[str]]) -> dict[str, Any]:
    """Return the schema of results, of which a page describes one for each way to call the method."""
    firsts = [next((line.strip() for line in lines if line.strip()), "") for lines in results]
    return _schema([next((name for sign, name in _RESULTS if _shows(first, sign)), None) for first in firsts])


def _shows(line: str, sign: str) -> bool:
    return sign in line if sign.startswith("(") else line.startswith(sign)


def _schema(names: Any) -> dict[str, Any]:
    """Return the schema of one of several types, or of anything if one of them is not known."""
    types = list(dict.fromkeys(names))
    if not types or None in types:
        return {}
    return {"type": types[0] if len(types) == 1 else types}


def _json_or_none(text: str) -> Any:
    """Return a default that a page has as JSON, and None for one in words."""
    try:
        return _decode(text)
    except (ValueError, RecursionError):
        return None


def _has_type(value: Any, schema: dict[str, Any]) -> bool:
    """Return whether a value is of the only type of a schema."""
    kind = schema.get("type")
    if isinstance(value, bool):
        return bool(kind == "boolean")
    return bool((kind == "number" and isinstance(value, (int, float))) or (kind == "string" and isinstance(value, str)))


def _annotated(schema: dict[str, Any], text: str) -> Any:
    more = {"description": text} if text else {}
    return Annotated[Any, msgspec.Meta(extra_json_schema={**schema, **more})]

"""Documentation that is generated from the table of settings: an example file, a reference page, a JSON schema."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import groupby
from typing import Any

from ..util.secrets import MASK, mask_url
from .config import SETTINGS
from .fields import Setting, number_text

__all__ = ["example_file", "json_schema", "reference_page", "settings_rows", "shown_value"]

_INTRODUCTION = """\
# Configuration

Every key of `dilithion.conf`, with the option of `dilithion-ws serve` that overrides it. Options override the
environment, and the environment overrides the file. `dilithion-ws config --reference` generates this page from the
program's own table of settings; `dilithion-ws config --schema` prints a JSON schema of the same keys.

The file has one `key=value` per line. Keys are case-insensitive. `#` and `;` begin a comment, except inside double
quotes. `[section]` lines are ignored. The last value of a repeated key counts. Commas separate the items of a list.
Keys of the node that are not listed here are ignored. The environment variable of a key is `DILITHION_` and the key in
capitals, for example `DILITHION_RPCUSER`.
"""

_TITLES = {
    "": "Server",
    "connections": "Connections",
    "messages": "Messages",
    "calls": "Calls",
    "logins": "Logins",
    "rates": "Rates",
    "events": "Events",
    "history": "History",
    "deflate": "Compression",
}


def example_file() -> str:
    """Return a commented configuration file with every key and its default."""
    lines = ["# Settings of dilithion_ws. Every line shows a default; remove the # to change it.", ""]
    for setting in SETTINGS.values():
        lines += [f"# {setting.description}", f"#{setting.key}={shown_value(setting, setting.default)}", ""]
    return "\n".join(lines)


def reference_page() -> str:
    """Return the reference of all keys, in Markdown."""
    lines = [_INTRODUCTION]
    by_group = sorted(SETTINGS.values(), key=lambda setting: list(_TITLES).index(setting.group))
    for group, settings in groupby(by_group, key=lambda setting: setting.group):
        lines += [f"## {_TITLES[group]}", "", *settings_rows(settings), ""]
    return "\n".join(lines)


def settings_rows(settings: Iterable[Setting]) -> list[str]:
    """Return the lines of a Markdown table of settings."""
    lines = ["| key | option | default | meaning |", "|---|---|---|---|"]
    for setting in settings:
        default = shown_value(setting, setting.default) or " "
        description = setting.description.replace("|", "\\|")
        lines.append(f"| `{setting.key}` | `{setting.option}` | {default} | {description} |")
    return lines


def json_schema(settings: Iterable[Setting] = SETTINGS.values()) -> dict[str, Any]:
    """Return a JSON Schema (2020-12) of the keys of a configuration file, for editors and deployment tools."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "dilithion.conf",
        "type": "object",
        "properties": {setting.key: _schema(setting) for setting in settings},
    }


def _schema(setting: Setting) -> dict[str, Any]:
    schema: dict[str, Any] = {"description": setting.description}
    if setting.kind == "list":
        schema.update(type="array", items={"type": "string"}, default=list(setting.default))
    else:
        kinds = {"int": "integer", "float": "number", "bool": "boolean"}
        schema.update(type=kinds.get(setting.kind, "string"), default=setting.default)
    if setting.minimum > -math.inf:
        schema["minimum"] = setting.minimum
    if setting.maximum < math.inf:
        schema["maximum"] = setting.maximum
    if setting.secret:
        schema["writeOnly"] = True
    return schema


def shown_value(setting: Setting, value: Any) -> str:
    """Return a value as a file would have it, and a secret as asterisks."""
    if setting.secret and value:
        return MASK
    if setting.kind == "bool":
        return "1" if value else "0"
    if setting.kind == "list":
        return ",".join(value)
    return number_text(value) if setting.kind == "float" else mask_url(str(value))

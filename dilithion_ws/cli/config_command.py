"""`dilithion-ws config`: the effective configuration, and where each value comes from."""

from __future__ import annotations

import argparse
import json
import sys

from ..config.config import SETTINGS
from ..config.reference import example_file, json_schema, reference_page, shown_value
from ..errors import ConfigError
from .config_options import add_settings, load_settings

__all__ = ["add_config"]


def add_config(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "config",
        help="show the configuration",
        description="Prints the effective value of every key and its source. Secrets are masked.",
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--example", action="store_true", help="print a commented file with every key instead")
    what.add_argument("--reference", action="store_true", help="print the reference of all keys, in Markdown, instead")
    what.add_argument("--schema", action="store_true", help="print a JSON schema of all keys instead")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--verbose", action="store_true", help=argparse.SUPPRESS)
    add_settings(parser)
    parser.set_defaults(run=show)


def show(options: argparse.Namespace) -> int:
    """Print the configuration. Return 1 if it cannot be used."""
    if options.example:
        print(example_file(), end="")
        return 0
    if options.reference:
        print(reference_page(), end="")
        return 0
    if options.schema:
        print(json.dumps(json_schema(), indent=2))
        return 0
    try:
        loaded = load_settings(options)
    except ConfigError as error:
        print(f"dilithion-ws: {error}", file=sys.stderr)
        return 1
    rows = {
        key: (shown_value(setting, setting.get(loaded.config)), loaded.sources[key])
        for key, setting in SETTINGS.items()
    }
    if options.json:
        print(json.dumps({key: {"value": value, "source": source} for key, (value, source) in rows.items()}, indent=2))
        return 0
    width = max(len(f"{key}={value}") for key, (value, _) in rows.items())
    for key, (value, source) in rows.items():
        print(f"{f'{key}={value}':{min(width, 60)}}  # {source}")
    return 0

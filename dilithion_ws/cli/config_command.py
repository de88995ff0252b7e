"""`dilithion-ws config`: what is configured, and where each value comes from."""

from __future__ import annotations

import argparse
import json
import sys

from ..config.sources import SETTINGS, example, reference, shown
from ..errors import ConfigError
from .config_options import add_settings, load_settings

__all__ = ["add_config"]


def add_config(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser(
        "config",
        help="show the configuration",
        description="Prints the effective value of every key and where it came from. Secrets are masked.",
    )
    parser.add_argument("--example", action="store_true", help="print a commented file with every key instead")
    parser.add_argument(
        "--reference", action="store_true", help="print the reference of all keys, in Markdown, instead"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--verbose", action="store_true", help=argparse.SUPPRESS)
    add_settings(parser)
    parser.set_defaults(run=show)


def show(options: argparse.Namespace) -> int:
    """Prints the configuration; 1 where it can't be used."""
    if options.example:
        print(example(), end="")
        return 0
    if options.reference:
        print(reference(), end="")
        return 0
    try:
        loaded = load_settings(options)
    except ConfigError as error:
        print(f"dilithion-ws: {error}", file=sys.stderr)
        return 1
    rows = {key: (shown(setting, loaded.value(setting)), loaded.sources[key]) for key, setting in SETTINGS.items()}
    if options.json:
        print(json.dumps({key: {"value": value, "source": source} for key, (value, source) in rows.items()}, indent=2))
        return 0
    width = max(len(f"{key}={value}") for key, (value, _) in rows.items())
    for key, (value, source) in rows.items():
        print(f"{f'{key}={value}':{min(width, 60)}}  # {source}")
    return 0

"""`dilithion-ws store`: checks the event store, and copies it."""

from __future__ import annotations

import argparse
import sys

from ..errors import ConfigError
from ..stores.archive import describe, export_lines, import_lines, read_store, write_store
from .config_options import add_settings, load_settings

__all__ = ["add_store"]

_ACTIONS = {
    "check": "say what the store has, and whether it is whole; exit with 1 if it is not",
    "export": "print all events as JSON, one object a line",
    "import": "write an export, from standard input, to an empty store",
}


def add_store(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "store",
        help="check, export or import the event store",
        description="Checks the store that the configuration names (--event-store), prints what it has, or fills an "
        "empty one. `check` and `export` change nothing, and a server may run meanwhile. An export is a backup, and the "
        "way from one kind of store to another.",
    )
    helps = "; ".join(f"{name}: {text}" for name, text in _ACTIONS.items())
    parser.add_argument("action", choices=list(_ACTIONS), help=helps)
    parser.add_argument("--verbose", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument(
        "--new-epochs",
        action="store_true",
        help="import: events were published after the export and are lost; who reads on gets an error that says so",
    )
    add_settings(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Carry out one action. Return the exit status."""
    try:
        if options.new_epochs and options.action != "import":
            raise ConfigError("--new-epochs is for import")
        store = load_settings(options, {}).config.event_store
        if options.action == "import":
            archive = import_lines(sys.stdin.buffer)
            if options.new_epochs:
                archive = archive.with_new_epochs()
            write_store(store, archive)
            print(f"{sum(len(log.entries) for log in archive.logs.values())} events were imported")
            return 0
        archive = read_store(store)
        if options.action == "check":
            for line in describe(archive):
                print(line)
            return 1 if archive.damaged else 0
        for row in export_lines(archive):
            sys.stdout.buffer.write(row + b"\n")
        sys.stdout.buffer.flush()
        if archive.damaged:
            print(f"dilithion-ws: {archive.damaged} events or logs are damaged, and missing here", file=sys.stderr)
        return 1 if archive.damaged else 0
    except ConfigError as error:
        print(f"dilithion-ws: {error}", file=sys.stderr)
        return 1

"""`dilithion-ws completion`: a script that completes commands and options in a shell."""

from __future__ import annotations

import argparse
import sys

__all__ = ["add_completion"]

_SHELLS = ("bash", "zsh", "tcsh")


def add_completion(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], whole: argparse.ArgumentParser
) -> None:
    """Add the command to the parser. `whole` is the parser of all commands."""
    parser = commands.add_parser(
        "completion",
        help="print a completion script for a shell",
        description="Prints a script that completes commands, options and their choices. For bash: "
        "dilithion-ws completion bash > ~/.local/share/bash-completion/completions/dilithion-ws",
    )
    parser.add_argument("shell", choices=_SHELLS, help="the shell that reads it")
    parser.add_argument("--verbose", action="store_true", help=argparse.SUPPRESS)
    parser.set_defaults(run=lambda options: _print_script(whole, options.shell))


def _print_script(parser: argparse.ArgumentParser, shell: str) -> int:
    try:
        import shtab
    except ImportError:
        print("dilithion-ws: completion needs shtab: pip install shtab", file=sys.stderr)
        return 1
    print(shtab.complete(parser, shell))
    return 0

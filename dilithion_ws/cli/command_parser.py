"""The parser of the command line: short help, whole help, and usage errors of two lines."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

__all__ = ["EXIT_STATUSES", "CommandParser", "advanced_group"]

EXIT_STATUSES = "exit status: 0 success, 1 failure, 2 wrong usage, 130 interrupted"


class CommandParser(argparse.ArgumentParser):
    """A parser for a command with many options.

    It takes no abbreviated options, since a later version may have two that begin with one. `--help` leaves out the
    groups made by `advanced_group`; `--help-all`, which the parser then has, shows them.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"allow_abbrev": False, "epilog": EXIT_STATUSES, **options})
        self.advanced: list[argparse._ArgumentGroup] = []

    def error(self, message: str) -> NoReturn:
        """Print what is wrong and where to look, and exit with 2."""
        self.exit(2, f"{self.prog}: error: {message}\nTry: {self.prog} --help\n")

    def format_usage(self) -> str:
        """Return one line for a command with many options, all options for others."""
        return self._with(shows_all=False, then=super().format_usage)

    def format_help(self) -> str:
        """Return the help without what is advanced."""
        return self._with(shows_all=False, then=super().format_help)

    def format_whole_help(self) -> str:
        """Return the help with everything."""
        return self._with(shows_all=True, then=super().format_help)

    def _with(self, *, shows_all: bool, then: Any) -> str:
        groups, usage = self._action_groups, self.usage
        if self.advanced:
            self.usage = self.usage or _short_usage(self._actions)
            if not shows_all:
                self._action_groups = [group for group in groups if group not in self.advanced]
        try:
            text: str = then()
        finally:
            self._action_groups, self.usage = groups, usage
        return text


class _HelpAll(argparse.Action):
    """Prints the whole help."""

    def __init__(self, option_strings: Sequence[str], dest: str, **options: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, **options)

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        assert isinstance(parser, CommandParser)
        print(parser.format_whole_help(), end="")
        parser.exit()


def advanced_group(parser: argparse.ArgumentParser, title: str, description: str) -> argparse._ArgumentGroup:
    """Return a new group of options that `--help` leaves out."""
    group = parser.add_argument_group(title, description)
    if isinstance(parser, CommandParser):
        if not parser.advanced:
            text = "show this help with all options, and exit"
            parser.add_argument("--help-all", action=_HelpAll, default=argparse.SUPPRESS, help=text)
        parser.advanced.append(group)
    return group


def _short_usage(actions: Sequence[argparse.Action]) -> str:
    """Return a usage line that names only what has to be given."""
    positionals = " ".join(str(action.metavar or action.dest) for action in actions if not action.option_strings)
    return f"%(prog)s [OPTION ...] {positionals}".rstrip()

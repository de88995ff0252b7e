"""From `dilithion.conf`, environment and options to a `Config`: one table of keys, from which the documentation is made.

The file's syntax is the node's: `key=value`, keys in any case, `#` and `;` begin a comment, one pair of double quotes is
stripped, `[section]` lines mean nothing, a repeated key's last value counts. One thing is better here: inside quotes, `#`
and `;` are part of the value, so that a password may have them. Keys of the node that are not ours are left alone.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, NamedTuple, TypeVar

from ..errors import ConfigError
from ..util.files import read_text
from .config import Config, Limits, number_text, setting_name

__all__ = [
    "PREFIX",
    "SETTINGS",
    "LoadedConfig",
    "Setting",
    "SettingsTable",
    "example",
    "load",
    "load_as",
    "parse_file",
    "reference",
    "rows",
    "settings_of",
    "shown",
]

PREFIX = "rpcwebsocket"
_ENVIRONMENT = "DILITHION_"
_YES, _NO = ("1", "true", "yes", "on"), ("0", "false", "no", "off")
_MOST_CHARACTERS = 1 << 20

Made = TypeVar("Made")


@dataclass(frozen=True)
class Setting:
    """One key.

    Attributes:
        key: as in the file, in lower case.
        name: the field of `Config` or, where `is_limit`, of `Limits`.
        kind: int, float, bool, text, path or list.
        default: the value where nothing is set.
        help: what it is, with its unit.
        secret: whether its value must not be shown.
        is_limit: whether it is a field of `Limits`.
    """

    key: str
    name: str
    kind: str
    default: Any
    help: str
    secret: bool
    is_limit: bool

    @property
    def option(self) -> str:
        """The command line's name for it."""
        plain = {"host": "bind", "user": "rpcuser", "password": "rpcpassword"}
        return "--" + plain.get(self.name, self.name).replace("_", "-")


def settings_of(kind: type) -> list[Setting]:
    """The settings that the fields of a dataclass tell of in their metadata: `key`, `kind`, `help` and `secret`."""
    return [
        Setting(data["key"], item.name, data["kind"], item.default, data["help"], data["secret"], False)
        for item in fields(kind)
        if "key" in (data := item.metadata)
    ]


def _table() -> dict[str, Setting]:
    found = settings_of(Config)
    for item in fields(Limits):
        assert item.default is not MISSING
        text = f"{item.metadata['help']} ({item.metadata['unit']})"
        found.append(Setting(setting_name(item.name), item.name, str(item.type), item.default, text, False, True))
    return {setting.key: setting for setting in found}


SETTINGS: Mapping[str, Setting] = _table()


class SettingsTable(NamedTuple):
    """Keys of one program.

    Attributes:
        settings: by key.
        prefix: how its keys begin, so that a key which is not there is known to be a mistake.
    """

    settings: Mapping[str, Setting]
    prefix: str


OURS = SettingsTable(SETTINGS, PREFIX)


@dataclass(frozen=True)
class LoadedConfig:
    """A configuration, and where its values come from.

    Attributes:
        config: the configuration.
        sources: by key: `option --port`, `environment DILITHION_RPCUSER`, `file dilithion.conf line 3`, or `default`.
    """

    config: Config
    sources: Mapping[str, str]

    def value(self, setting: Setting) -> Any:
        """The value that a setting has."""
        return getattr(self.config.limits if setting.is_limit else self.config, setting.name)


def load(
    path: str | None = None, environment: Mapping[str, str] | None = None, options: Mapping[str, str] | None = None
) -> LoadedConfig:
    """See `Config.load`."""
    texts = _gather(path, environment, options, OURS)
    values: dict[str, Any] = {}
    limits: dict[str, Any] = {}
    for key, (text, source) in texts.items():
        setting = SETTINGS[key]
        (limits if setting.is_limit else values)[setting.name] = _convert(setting, text, source)
    config = _make(lambda: Config(limits=Limits(**limits), **values), texts)
    return LoadedConfig(config, {key: texts[key][1] if key in texts else "default" for key in SETTINGS})


def load_as(
    kind: Callable[..., Made],
    table: SettingsTable,
    path: str | None = None,
    environment: Mapping[str, str] | None = None,
    options: Mapping[str, str] | None = None,
) -> Made:
    """Another dataclass from the same sources, which a table gives keys for; raises ConfigError as `load` does."""
    texts = _gather(path, environment, options, table)
    settings = table.settings
    values = {settings[key].name: _convert(settings[key], text, source) for key, (text, source) in texts.items()}
    return _make(lambda: kind(**values), texts)


def _gather(
    path: str | None, environment: Mapping[str, str] | None, options: Mapping[str, str] | None, table: SettingsTable
) -> dict[str, tuple[str, str]]:
    """The text for each key that has one, and where it is from."""
    texts: dict[str, tuple[str, str]] = {}
    if path is not None:
        for key, (text, line) in parse_file(_read(path), path, table).items():
            texts[key] = text, f"file {path} line {line}"
    for name, text in (os.environ if environment is None else environment).items():
        key = name[len(_ENVIRONMENT) :].lower()
        if name.startswith(_ENVIRONMENT) and _is_ours(key, f"environment {name}", table):
            texts[key] = text, f"environment {name}"
    for key, text in (options or {}).items():
        if key not in table.settings:
            raise ConfigError(f"option {key[:64]!r} is no key of the configuration")
        texts[key] = text, f"option {table.settings[key].option}"
    return texts


def _make(make: Callable[[], Made], texts: Mapping[str, tuple[str, str]]) -> Made:
    try:
        return make()
    except ConfigError as error:
        guilty = [source for key, (_, source) in texts.items() if re.search(rf"\b{key}\b", str(error))]
        raise ConfigError(f"{guilty[0]}: {error}" if guilty else str(error)) from None


def parse_file(text: str, path: str, table: SettingsTable = OURS) -> dict[str, tuple[str, int]]:
    """Our keys in the text of a file, each with its value and line.

    Raises:
        ConfigError: a key begins like ours and is none, or a line can't be read.
    """
    found: dict[str, tuple[str, int]] = {}
    for number, line in enumerate(text.split("\n"), 1):
        where = f"file {path} line {number}"
        if line.lstrip().startswith(("#", ";", "[")) or not line.strip():
            continue
        key, equals, value = line.partition("=")
        key = key.strip().lower()
        if not equals:
            # A comment may stand where a value would; a line that is neither is the node's own affair.
            name = key.split(maxsplit=1)[0]  # what follows may be a secret
            if name in table.settings or name.startswith(table.prefix):
                raise ConfigError(f"{where}: {name[:64]!r} has no value; expected key=value")
            continue
        if _is_ours(key, where, table):
            found[key] = _value(value, where), number
    return found


def _value(text: str, where: str) -> str:
    text = text.strip()
    if text.startswith('"'):
        end = text.find('"', 1)
        if end < 0:
            raise ConfigError(f"{where}: the value has an opening quote and no closing one")
        rest = text[end + 1 :].strip()
        if rest and rest[0] not in "#;":
            raise ConfigError(f"{where}: there is text behind the closing quote")
        return text[1:end]
    for sign in "#;":
        text = text.partition(sign)[0]
    return text.strip()


def _is_ours(key: str, where: str, table: SettingsTable) -> bool:
    if key in table.settings:
        return True
    if key.startswith(table.prefix):
        close = difflib.get_close_matches(key, table.settings, 1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise ConfigError(f"{where}: unknown key {key[:64]}{hint} (dilithion-ws config --example shows all keys)")
    return False


def _read(path: str) -> str:
    try:
        return read_text(path, _MOST_CHARACTERS)
    except FileNotFoundError:
        return ""
    except ConfigError as error:
        raise ConfigError(f"file {error}") from None


def _convert(setting: Setting, text: str, source: str) -> Any:
    text = text if setting.secret else text.strip()
    shown = "its value" if setting.secret else repr(text[:64])
    if setting.kind in ("int", "float"):
        try:
            return int(text) if setting.kind == "int" else float(text)
        except ValueError:
            kind = "a whole number" if setting.kind == "int" else "a number"
            raise ConfigError(f"{source}: {setting.key} is {shown}; it takes {kind}: {setting.help}") from None
    if setting.kind == "bool":
        if text.lower() not in _YES + _NO:
            raise ConfigError(f"{source}: {setting.key} is {shown}; it takes 1 or 0: {setting.help}")
        return text.lower() in _YES
    if setting.kind == "list":
        return tuple(item.strip() for item in text.split(",") if item.strip())
    return text


def example() -> str:
    """A commented configuration file with every key and its default."""
    lines = ["# Settings of dilithion_ws. Every line shows a default; remove the # to change one.", ""]
    for setting in SETTINGS.values():
        lines += [
            f"# {setting.help[:1].upper()}{setting.help[1:]}",
            f"#{setting.key}={shown(setting, setting.default)}",
            "",
        ]
    return "\n".join(lines)


def reference() -> str:
    """The table of all keys, in Markdown: the reference in the documentation."""
    lines = [
        "# Configuration",
        "",
        "Every key of `dilithion.conf`, with the option of `dilithion-ws serve` and the variable of the environment that",
        "stand for it. Options go before the environment, the environment before the file. This page is made from the",
        "program's own table by `dilithion-ws config --reference`.",
        "",
        "The file has one `key=value` a line. Keys may be in any case; `#` and `;` begin a comment, but not inside",
        "double quotes; `[section]` lines mean nothing; of a repeated key the last value counts; commas",
        "separate the items of a list. Keys of the node that are not listed here are left alone.",
    ]
    for title, limits in (("Settings", False), ("Limits", True)):
        lines += ["", f"## {title}", ""]
        lines += rows(setting for setting in SETTINGS.values() if setting.is_limit is limits)
    lines += [
        "",
        "The environment's variable for a key is `DILITHION_` and the key in capitals: `DILITHION_RPCUSER`.",
        "",
    ]
    return "\n".join(lines)


def rows(settings: Iterable[Setting]) -> list[str]:
    """A table of settings in Markdown."""
    lines = ["| key | option | default | meaning |", "|---|---|---|---|"]
    for setting in settings:
        default = shown(setting, setting.default) or " "
        text = setting.help.replace("|", "\\|")
        lines.append(f"| `{setting.key}` | `{setting.option}` | {default} | {text} |")
    return lines


def shown(setting: Setting, value: Any) -> str:
    """A value as a file would have it; a secret as stars."""
    if setting.secret and value:
        return "********"
    if setting.kind == "bool":
        return "1" if value else "0"
    if setting.kind == "list":
        return ",".join(value)
    return number_text(value) if setting.kind == "float" else str(value)

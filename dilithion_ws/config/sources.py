"""Read a settings object from a file, the environment and options. Options override the environment,
and the environment overrides the file."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import msgspec

from ..errors import ConfigError
from ..util.files import read_bounded_text
from .conf_file import is_known_key, parse_file
from .fields import Setting, build

__all__ = ["ENVIRONMENT_PREFIX", "LoadedConfig", "SettingsTable", "load", "read_secret"]

ENVIRONMENT_PREFIX = "DILITHION_"
_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")
_FILE_SUFFIX = "_file"
_MAX_FILE_CHARACTERS = 1 << 20
_MAX_SECRET_CHARACTERS = 4096

Made = TypeVar("Made")


class SettingsTable(msgspec.Struct, frozen=True):
    """The keys of one program.

    Attributes:
        settings: the settings by key.
        prefix: the prefix of its keys; an unknown key that has it is reported as a mistake.
    """

    settings: Mapping[str, Setting]
    prefix: str


class LoadedConfig(msgspec.Struct, Generic[Made], frozen=True):
    """A configuration, and where its values come from.

    Attributes:
        config: the configuration.
        sources: by key: `option --port`, `environment DILITHION_RPCUSER`, `file dilithion.conf line 3`, or `default`.
    """

    config: Made
    sources: Mapping[str, str]


class _Text(msgspec.Struct, frozen=True):
    value: str
    source: str


def load(
    kind: type[Made],
    table: SettingsTable,
    path: str | None = None,
    environment: Mapping[str, str] | None = None,
    options: Mapping[str, str] | None = None,
) -> LoadedConfig[Made]:
    """Read a settings object.

    Args:
        kind: its class.
        table: its keys.
        path: a configuration file; a missing one means defaults. None for no file.
        environment: the variables; default: those of the process.
        options: values by key, as from a command line.

    Raises:
        ConfigError: with the source and the key of the value, and what is accepted.
    """
    texts = _collect(table, path, environment, options)
    values: dict[tuple[str, ...], Any] = {}
    for key, text in texts.items():
        setting = table.settings[key]
        values[setting.path] = _parse(setting, text)
    config = _with_source(lambda: build(kind, values), texts)
    return LoadedConfig(config, {key: texts[key].source if key in texts else "default" for key in table.settings})


def _collect(
    table: SettingsTable, path: str | None, environment: Mapping[str, str] | None, options: Mapping[str, str] | None
) -> dict[str, _Text]:
    """Return the text of each key that is set, from the source that counts."""
    keys, prefix = table.settings, table.prefix
    texts: dict[str, _Text] = {}
    if path is not None:
        for key, (text, line) in parse_file(_read(path), path, keys, prefix).items():
            texts[key] = _Text(text, f"file {path} line {line}")
    for name, text in (os.environ if environment is None else environment).items():
        key = name.removeprefix(ENVIRONMENT_PREFIX).lower()
        secret = keys.get(key.removesuffix(_FILE_SUFFIX))
        if name.startswith(ENVIRONMENT_PREFIX) and key.endswith(_FILE_SUFFIX) and secret is not None and secret.secret:
            texts[secret.key] = _Text(read_secret(text, f"environment {name}"), f"environment {name}")
        elif name.startswith(ENVIRONMENT_PREFIX) and is_known_key(key, f"environment {name}", keys, prefix):
            texts[key] = _Text(text, f"environment {name}")
    for key, text in (options or {}).items():
        if key not in keys:
            raise ConfigError(f"option {key[:64]!r} is not a key of the configuration")
        texts[key] = _Text(text, f"option {keys[key].option}")
    return texts


def read_secret(path: str, what: str) -> str:
    """Return the secret in a file: its first line. Raise ConfigError if there is none.

    Args:
        path: the file.
        what: what names it, for the message.
    """
    try:
        secret = read_bounded_text(path, _MAX_SECRET_CHARACTERS).partition("\n")[0].rstrip("\r")
    except OSError as error:
        raise ConfigError(f"{what}: {path} can't be read: {error.strerror}") from None
    if not secret:
        raise ConfigError(f"{what}: {path} has no secret in its first line")
    return secret


def _with_source(make: Callable[[], Made], texts: Mapping[str, _Text]) -> Made:
    """Make a settings object. An error names the source of the value at fault, if it has one."""
    try:
        return make()
    except ConfigError as error:
        sources = [texts[key].source for key in error.keys if key in texts]
        raise ConfigError(f"{sources[0]}: {error}" if sources else str(error), *error.keys) from None


def _read(path: str) -> str:
    try:
        return read_bounded_text(path, _MAX_FILE_CHARACTERS)
    except FileNotFoundError:
        return ""
    except ConfigError as error:
        raise ConfigError(f"file {error}") from None


def _parse(setting: Setting, text: _Text) -> Any:
    value = text.value if setting.secret else text.value.strip()
    shown = "its value" if setting.secret else repr(value[:64])
    if setting.kind in ("int", "float"):
        try:
            return int(value) if setting.kind == "int" else float(value)
        except ValueError:
            kind = "a whole number" if setting.kind == "int" else "a number"
            raise ConfigError(
                f"{text.source}: {setting.key} is {shown}; it takes {kind}: {setting.description}"
            ) from None
    if setting.kind == "bool":
        if value.lower() not in _TRUE + _FALSE:
            raise ConfigError(f"{text.source}: {setting.key} is {shown}; it takes 1 or 0: {setting.description}")
        return value.lower() in _TRUE
    if setting.kind == "list":
        return tuple(item.strip() for item in value.split(",") if item.strip())
    return value

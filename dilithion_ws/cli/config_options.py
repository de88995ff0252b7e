"""Options that stand for configuration keys: one for each, made from the table of settings."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping

from ..config.sources import SETTINGS, LoadedConfig, Setting, load, shown

__all__ = ["add_setting", "add_settings", "conf_file", "load_settings"]

CONF = "dilithion.conf"
USERS = "rpc_permissions.json"
COOKIE = ".cookie"


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Adds `--conf`, `--datadir`, `--cookie`, and an option for each key."""
    files = parser.add_argument_group("files")
    files.add_argument("--conf", metavar="FILE", help="configuration file; a missing one means defaults")
    files.add_argument(
        "--datadir", metavar="DIR", help=f"where {CONF}, {USERS} and {COOKIE} are (default: where --conf is, or none)"
    )
    files.add_argument(
        "--cookie", action="store_true", help=f"without other users, write a fresh password to {COOKIE} in --datadir"
    )
    keys = parser.add_argument_group("settings", "Each stands for the key of the configuration file in brackets.")
    limits = parser.add_argument_group("limits", "Each stands for the key of the configuration file in brackets.")
    for setting in SETTINGS.values():
        add_setting(limits if setting.is_limit else keys, setting)


def conf_file(options: argparse.Namespace) -> str | None:
    """The configuration file that options name, by itself or by its folder."""
    path: str | None = options.conf
    return path or (os.path.join(options.datadir, CONF) if options.datadir is not None else None)


def load_settings(options: argparse.Namespace, defaults: Mapping[str, str] | None = None) -> LoadedConfig:
    """The configuration that options, environment and file make together.

    Args:
        options: parsed, from a parser that `add_settings` was called on.
        defaults: values by key that hold where nothing else is said.

    Raises:
        ConfigError: see `Config.load`.
    """
    folder = options.datadir
    if folder is None and options.conf is not None:
        folder = os.path.dirname(options.conf) or "."
    path = conf_file(options)
    given = {key: text for key in SETTINGS if (text := getattr(options, key)) is not None}
    loaded = load(path, None, given)
    more = {key: text for key, text in (defaults or {}).items() if loaded.sources[key] == "default"}
    if folder is not None and not loaded.config.users_file and os.path.exists(os.path.join(folder, USERS)):
        more["rpcwebsocketusersfile"] = os.path.join(folder, USERS)
    elif options.cookie and not loaded.config.has_users:
        more["rpcwebsocketcookiefile"] = os.path.join(folder or ".", COOKIE)
    if not more:
        return loaded
    again = load(path, None, {**given, **more})
    return LoadedConfig(again.config, {**again.sources, **dict.fromkeys(more, "default")})


def add_setting(group: argparse._ArgumentGroup, setting: Setting) -> None:
    """Adds the option that stands for a key."""
    default = shown(setting, setting.default)
    kinds = {"int": "N", "float": "S", "bool": "0|1", "path": "FILE", "list": "LIST", "text": "TEXT"}
    group.add_argument(
        setting.option,
        dest=setting.key,
        metavar="ADDRESS" if setting.name == "host" else kinds[setting.kind],
        help=f"{setting.help} [{setting.key}]" + (f" (default: {default})" if default else "").replace("%", "%%"),
    )

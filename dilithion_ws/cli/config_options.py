"""Command-line options for configuration keys: one for each, generated from the table of settings."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping

from ..config.config import SETTINGS, Config, load_config
from ..config.fields import Setting
from ..config.reference import shown_value
from ..config.sources import ENVIRONMENT_PREFIX, LoadedConfig, read_secret
from ..errors import ConfigError
from ..util.secrets import mask_url
from .command_parser import advanced_group

__all__ = [
    "CONF",
    "COOKIE",
    "GATEWAY_COOKIE",
    "add_setting",
    "add_settings",
    "conf_file",
    "load_settings",
    "options_of",
]

CONF = "dilithion.conf"
USERS = "rpc_permissions.json"
COOKIE = ".cookie"
GATEWAY_COOKIE = ".gateway-cookie"
"""Not `.cookie`, which in the node's own directory is the node's."""


def add_settings(parser: argparse.ArgumentParser, defaults: Mapping[str, str] | None = None) -> None:
    """Add `--conf`, `--datadir`, `--cookie`, and an option for each key.

    Args:
        parser: of a command.
        defaults: what help says by key, where the command's defaults are not those of the table.
    """
    files = parser.add_argument_group("files")
    files.add_argument("--conf", metavar="FILE", help="configuration file (default: that of --datadir, or none)")
    files.add_argument(
        "--datadir",
        metavar="DIR",
        help=f"directory of {CONF}, {USERS} and {COOKIE} (default: that of --conf, or none)",
    )
    files.add_argument(
        "--cookie", action="store_true", help=f"without other users, write a fresh password to {COOKIE} in --datadir"
    )
    text = "Each option overrides the configuration key in brackets."
    keys = parser.add_argument_group("settings", text)
    limits = advanced_group(parser, "limits", text)
    for setting in SETTINGS.values():
        add_setting(limits if setting.group else keys, setting, (defaults or {}).get(setting.key))


def add_setting(group: argparse._ArgumentGroup, setting: Setting, default: str | None = None) -> None:
    """Add the option that overrides a key, or for a secret the one that names a file with it."""
    if setting.secret:
        text = f"File with it in the first line. {setting.description} [{setting.key}]"
        group.add_argument(setting.option, dest=f"{setting.key}_file", metavar="FILE", help=text)
        plain = setting.option.removesuffix("-file")
        group.add_argument(plain, dest=setting.key, action=_RefuseSecret, help=argparse.SUPPRESS)
        return
    default = shown_value(setting, setting.default) if default is None else default
    kinds = {"int": "N", "float": "S", "bool": "0|1", "path": "FILE", "list": "LIST", "text": "TEXT"}
    group.add_argument(
        setting.option,
        dest=setting.key,
        action=_Join if setting.name == "upstream" else "store",
        metavar="ADDRESS" if setting.name == "host" else kinds[setting.kind],
        help=f"{setting.description} [{setting.key}]"
        + (f" (default: {default})" if default else "").replace("%", "%%"),
    )


class _Join(argparse.Action):
    """Joins the values of an option that was given more than once by commas, as the configuration file has them."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        earlier = getattr(namespace, self.dest)
        setattr(namespace, self.dest, str(values) if earlier is None else f"{earlier},{values}")


class _RefuseSecret(argparse.Action):
    """Refuses a secret on the command line, where every user of the machine can read it."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        parser.error(
            f"{option_string}: every user of this machine can read a command line; use {option_string}-file, "
            f"the environment ({ENVIRONMENT_PREFIX}{self.dest.upper()}) or the configuration file"
        )


def _has_users_file(folder: str) -> bool:
    """Return whether a directory has a users file. Raise ConfigError if that cannot be seen."""
    path = os.path.join(folder, USERS)
    try:
        os.stat(path)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror}") from None
    return True


def options_of(options: argparse.Namespace, settings: Mapping[str, Setting]) -> dict[str, str]:
    """Return the values of those keys for which an option was given.

    Raises:
        ConfigError: a secret cannot be read from its file, or an option has one in it.
    """
    found = {}
    for key, setting in settings.items():
        if setting.secret:
            path = getattr(options, f"{key}_file")
            if path is not None:
                found[key] = read_secret(path, setting.option)
        elif (text := getattr(options, key)) is not None:
            if mask_url(text) != text:
                raise ConfigError(
                    f"{setting.option} has a password in it, and every user of this machine can read a command line; use "
                    f"the environment ({ENVIRONMENT_PREFIX}{key.upper()}) or the configuration file"
                )
            found[key] = text
    return found


def conf_file(options: argparse.Namespace) -> str | None:
    """Return the configuration file that options name, directly or by its directory, or None.

    A file or directory that was named has to exist. After a typing error a server would otherwise start with other
    settings than its operator thinks, and perhaps without users. In a directory the file may be missing.

    Raises:
        ConfigError: it does not exist.
    """
    if options.conf is not None and not os.path.isfile(options.conf):
        raise ConfigError(f"--conf: there is no file {options.conf}, or it cannot be reached")
    if options.datadir is not None and not os.path.isdir(options.datadir):
        raise ConfigError(f"--datadir: there is no directory {options.datadir}, or it cannot be reached")
    path: str | None = options.conf
    return path or (os.path.join(options.datadir, CONF) if options.datadir is not None else None)


def load_settings(options: argparse.Namespace, defaults: Mapping[str, str] | None = None) -> LoadedConfig[Config]:
    """Return the configuration that options, environment and file make together.

    Args:
        options: parsed by a parser that `add_settings` was called on.
        defaults: values by key that hold if no source sets them.

    Raises:
        ConfigError: see `Config.load`.
    """
    folder = options.datadir
    if folder is None and options.conf is not None:
        folder = os.path.dirname(options.conf) or "."
    path = conf_file(options)
    given = options_of(options, SETTINGS)
    loaded = load_config(path, None, given)
    more = {key: text for key, text in (defaults or {}).items() if loaded.sources[key] == "default"}
    if folder is not None and not loaded.config.users_file and _has_users_file(folder):
        more["rpcwebsocketusersfile"] = os.path.join(folder, USERS)
    elif options.cookie and not loaded.config.has_users:
        more["rpcwebsocketcookiefile"] = os.path.join(folder or ".", COOKIE)
    if not more:
        return loaded
    again = load_config(path, None, {**given, **more})
    return LoadedConfig(again.config, {**again.sources, **dict.fromkeys(more, "default")})

"""Declare settings as data: a field's key, unit, bounds and description stand beside its type and its default.

A settings class is a frozen `msgspec.Struct` whose fields are annotated with `limit(...)` or `option(...)`:

    class CallLimits(SettingsGroup, frozen=True, kw_only=True):
        queue: Annotated[int, limit("calls", "Slow calls that may wait for a worker.", ge=0)] = 64

`settings_of` turns such a class into the table from which files, environment and command line are read and from which the
documentation is generated. Server and gateway use the same table.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar, get_args

import msgspec

from ..errors import ConfigError

__all__ = ["PREFIX", "Setting", "SettingsGroup", "build", "limit", "number_text", "option", "settings_of"]

PREFIX = "rpcwebsocket"
"""Prefix of every key of the server that the node does not have itself."""

MAX_SECONDS = 1e8
"""Upper bound of all times: about three years, which clocks and system calls can still represent."""

_SHORT_NAMES = {"host": "bind", "user": "rpcuser", "password": "rpcpassword"}
_KINDS = {int: "int", float: "float", bool: "bool", str: "text"}

Made = TypeVar("Made")


def limit(unit: str, description: str, *, ge: float = 1, le: float = math.inf, short_name: str = "") -> msgspec.Meta:
    """Declare a number.

    Args:
        unit: its unit, as error messages state it; `s` for seconds.
        description: a complete sentence.
        ge, le: smallest and largest accepted value; times have `MAX_SECONDS` as their upper bound.
        short_name: what its key and its option are named after, if not after the field.
    """
    le = min(le, MAX_SECONDS) if unit == "s" else le
    extra = {"unit": unit, "short_name": short_name}
    return msgspec.Meta(ge=ge, le=None if le == math.inf else le, description=description, extra=extra)


def option(key: str, description: str, *, kind: str = "", secret: bool = False) -> msgspec.Meta:
    """Declare a setting that is not a bound.

    Args:
        key: its name in the configuration file.
        description: a complete sentence.
        kind: `path` for a file; otherwise the kind follows from the type.
        secret: whether its value must never be shown.
    """
    return msgspec.Meta(description=description, extra={"key": key, "kind": kind, "secret": secret})


class Setting(msgspec.Struct, frozen=True):
    """One row of the table of settings.

    Attributes:
        key: its name in the file, in lower case.
        path: the attributes that lead to its value, such as `("limits", "calls", "queue")`.
        kind: `int`, `float`, `bool`, `text`, `path` or `list`.
        default: the value that holds if nothing is set.
        description: a complete sentence.
        unit: the unit of a number, or "".
        secret: whether its value must never be shown.
        minimum, maximum: bounds of a number.
        short_name: what its option, and its key if that has the prefix, are named after.
    """

    key: str
    path: tuple[str, ...]
    kind: str
    default: Any
    description: str
    unit: str = ""
    secret: bool = False
    minimum: float = -math.inf
    maximum: float = math.inf
    short_name: str = ""

    @property
    def name(self) -> str:
        """The name of the field."""
        return self.path[-1]

    @property
    def group(self) -> str:
        """The name of the group that the field belongs to, or "" at the top."""
        return self.path[-2] if len(self.path) > 1 else ""

    @property
    def option(self) -> str:
        """The name of the command-line option. That of a secret takes a file, since others can read command lines."""
        return "--" + self.short_name.replace("_", "-") + ("-file" if self.secret else "")

    def get(self, settings: object) -> Any:
        """Return the value that this setting has in a configuration."""
        for name in self.path:
            settings = getattr(settings, name)
        return settings

    def check(self, value: Any) -> None:
        """Raise ConfigError if a number is not one or is out of bounds."""
        if self.kind not in ("int", "float"):
            return
        accepted: tuple[type, ...] = (int,) if self.kind == "int" else (int, float)
        is_number = isinstance(value, accepted) and not isinstance(value, bool) and value != math.inf
        if is_number and self.minimum <= value <= self.maximum:
            return
        kind = "a whole number" if self.kind == "int" else "a number"
        if self.minimum == 0 and self.maximum < math.inf:
            bounds = f" from 0 to {number_text(self.maximum)}"
        else:
            bounds = f", at least {number_text(self.minimum)}"
            bounds += "" if self.maximum == math.inf else f" and at most {number_text(self.maximum)}"
        unit = f" of {self.unit}" if self.unit else ""
        raise ConfigError(f"{self.name} ({self.key}) is {value!r}; it takes {kind}{unit}{bounds}", self.key)


class SettingsGroup(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all settings classes: checks numbers against their bounds when an instance is made.

    Raises:
        ConfigError: a value is out of bounds.
    """

    def __post_init__(self) -> None:
        for setting in _own_settings(type(self)):
            setting.check(getattr(self, setting.name))


_tables: dict[type, list[Setting]] = {}


def settings_of(kind: type[msgspec.Struct], path: tuple[str, ...] = ()) -> Iterator[Setting]:
    """Yield the settings of a class and of the groups in it, fields of its own first."""
    for setting in _own_settings(kind):
        yield msgspec.structs.replace(setting, path=(*path, setting.name))
    for field in msgspec.structs.fields(kind):
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            yield from settings_of(field.type, (*path, field.name))


def _own_settings(kind: type[msgspec.Struct]) -> list[Setting]:
    """Return the settings that are fields of the class itself. They are computed once for all instances."""
    found = _tables.get(kind)
    if found is None:
        found = _tables[kind] = [
            _setting(field, meta)
            for field in msgspec.structs.fields(kind)
            for meta in get_args(field.type)
            if isinstance(meta, msgspec.Meta)
        ]
    return found


def _setting(field: msgspec.structs.FieldInfo, meta: msgspec.Meta) -> Setting:
    extra = meta.extra or {}
    short_name = extra.get("short_name") or _SHORT_NAMES.get(field.name, field.name)
    return Setting(
        key=extra.get("key") or PREFIX + short_name.replace("_", ""),
        path=(field.name,),
        kind=extra.get("kind") or _KINDS.get(get_args(field.type)[0], "list"),
        default=field.default,
        description=meta.description or "",
        unit=extra.get("unit", ""),
        secret=extra.get("secret", False),
        minimum=-math.inf if meta.ge is None else meta.ge,
        maximum=math.inf if meta.le is None else meta.le,
        short_name=short_name,
    )


def build(kind: type[Made], values: Mapping[tuple[str, ...], Any]) -> Made:
    """Make a settings object from values by path. A group that no value names keeps its defaults.

    Raises:
        ConfigError: a value is out of bounds.
    """
    arguments: dict[str, Any] = {}
    groups: dict[str, dict[tuple[str, ...], Any]] = {}
    for (first, *rest), value in values.items():
        if rest:
            groups.setdefault(first, {})[tuple(rest)] = value
        else:
            arguments[first] = value
    if groups:
        types = {field.name: field.type for field in msgspec.structs.fields(kind)}  # type: ignore[arg-type]
        arguments.update((name, build(types[name], inner)) for name, inner in groups.items())
    return kind(**arguments)


def number_text(value: float) -> str:
    """Return a number as a file would have it: all significant digits, and an exponent only if it must have one."""
    return str(int(value)) if isinstance(value, int) or value.is_integer() else repr(value)

"""Make configurations from the names of single settings, whatever group they are in."""

from __future__ import annotations

from typing import Any

from dilithion_ws import Config, Limits
from dilithion_ws.config.config import SETTINGS

__all__ = ["LIMIT_NAMES", "OPTION_NAMES", "make_config", "take_config"]

LIMIT_NAMES = {setting.name for setting in SETTINGS.values() if setting.group}
OPTION_NAMES = {setting.name for setting in SETTINGS.values() if not setting.group}


def make_config(**values: Any) -> Config:
    """Make a configuration from names of limits and of fields of `Config`."""
    limits = {name: values.pop(name) for name in list(values) if name in LIMIT_NAMES}
    return Config(limits=Limits.from_names(**limits), **values)


def take_config(options: dict[str, Any]) -> Config:
    """Make a configuration from those options that name a setting, and remove them."""
    names = (LIMIT_NAMES | OPTION_NAMES) & set(options)
    return make_config(**{name: options.pop(name) for name in names})

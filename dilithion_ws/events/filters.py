"""Which of a topic's events a subscriber wants, such as `{"kind": "added", "address": ["D...", "D..."]}`.

All members must hold; of a list, one value. What may be filtered by, and which member of an event that looks at, is the
topic's to say. A member of an event that is a list holds each of its values.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from ..errors import JsonRpcCode, RpcError

__all__ = ["Filter", "Key", "keys_of"]

Key = tuple[str, str]
"""A filter's member and one value of it, as Python writes it: so 1, "1" and true are three."""

_decode = msgspec.json.Decoder().decode


class Filter:
    """A filter that has been checked.

    Args:
        wanted: what the client sent.
        accepted: members that the topic can be filtered by.
        most: values in all.

    Attributes:
        wanted: what the client sent.

    Raises:
        RpcError: -32602, with what is accepted.
    """

    def __init__(self, wanted: Mapping[str, Any], accepted: Mapping[str, str], most: int) -> None:
        self.wanted = dict(wanted)
        self._values: dict[str, frozenset[Key]] = {}
        for name, value in sorted(wanted.items()):
            if name not in accepted:
                known = ", ".join(accepted) or "nothing"
                raise _invalid(f"filter has {name[:64]!r}; this topic is filtered by {known}")
            values = value if isinstance(value, list) else [value]
            if not values or not all(_is_plain(item) for item in values):
                raise _invalid(f"filter member {name} takes a string, a whole number, a boolean, or a list of these")
            self._values[name] = frozenset((name, repr(item)) for item in values)
        if sum(map(len, self._values.values())) > most:
            raise _invalid(f"filter has more values than the limit of {most} (rpcwebsocketfiltervalues)")

    @property
    def text(self) -> str:
        """The same for filters that mean the same."""
        plain = {name: sorted(item for _, item in keys) for name, keys in self._values.items()}
        return json.dumps(plain, sort_keys=True)

    @property
    def index(self) -> frozenset[Key]:
        """Keys of which a matching event has one: those of the most telling member."""
        name = max(self._values, key=lambda name: name != "kind")
        return self._values[name]

    def matches(self, keys: frozenset[Key]) -> bool:
        """Whether an event with these keys is wanted."""
        return all(not wanted.isdisjoint(keys) for wanted in self._values.values())


def keys_of(data: bytes, accepted: Mapping[str, str]) -> frozenset[Key]:
    """The keys of an event.

    Args:
        data: the event as JSON.
        accepted: by member of a filter, the member of an event.
    """
    try:
        event = _decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return frozenset()  # from a store that others write to as well
    if not isinstance(event, dict):
        return frozenset()
    found: set[Key] = set()
    for name, member in accepted.items():
        value = event.get(member)
        values = value if isinstance(value, list) else [value]
        found.update((name, repr(item)) for item in values if _is_plain(item))
    return frozenset(found)


def _is_plain(item: Any) -> bool:
    """Whether it is something to compare; numbers of thousands of digits are not."""
    return isinstance(item, str) or (isinstance(item, int) and item.bit_length() <= 256)


def _invalid(text: str) -> RpcError:
    return RpcError(JsonRpcCode.INVALID_PARAMS, f"Invalid params: {text}")

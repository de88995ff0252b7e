"""Which events of a topic a subscriber wants, such as `{"kind": "added", "address": ["D...", "D..."]}`.

An event matches if it matches all members of the filter, and of a list at least one value. The topic defines the members
of a filter, and which member of an event each of them is compared with. If that member is a list, any of its values may
match, and several members of an event may be compared with one of a filter.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from ..config.limits import EventLimits
from ..errors import JsonRpcCode, RpcError

__all__ = ["Filter", "FilterKey"]

_MAX_INTEGER_BITS = 256
"""Integers beyond this are not compared: converting one of thousands of digits takes milliseconds."""

_decode = msgspec.json.Decoder().decode


class FilterKey(NamedTuple):
    """A member of a filter and one value of it, in Python's notation: so 1, "1" and true differ."""

    member: str
    value: str


class Filter:
    """A valid filter.

    It is held for as long as the subscription exists, so both the number of its values and their size are limited.

    Args:
        wanted: what the client sent.
        accepted: the members that the topic can be filtered by, each with the member of an event it is compared with.
        limits: how many values it may have in all, and how many characters.

    Attributes:
        wanted: what the client sent.

    Raises:
        RpcError: -32602, with what is accepted.
    """

    def __init__(self, wanted: Mapping[str, Any], accepted: Mapping[str, str], limits: EventLimits) -> None:
        self.wanted = dict(wanted)
        self._accepted = accepted
        self._values: dict[str, frozenset[FilterKey]] = {}
        count = size = 0
        for name, value in sorted(wanted.items()):
            if name not in accepted:
                known = ", ".join(accepted) or "nothing"
                raise _invalid(f"filter has {name[:64]!r}; this topic is filtered by {known}")
            values = value if isinstance(value, list) else [value]
            count += len(values)
            if count > limits.filter_values:
                raise _invalid(
                    f"filter has more values than the limit of {limits.filter_values} (rpcwebsocketfiltervalues)"
                )
            if not values or not all(_is_comparable(item) for item in values):
                raise _invalid(f"filter member {name} takes a string, a whole number, a boolean, or a list of these")
            size += sum(len(item) for item in values if isinstance(item, str))
            if size > limits.filter_size:
                raise _invalid(
                    f"filter has more characters than the limit of {limits.filter_size} (rpcwebsocketfiltersize)"
                )
            self._values[name] = frozenset(FilterKey(name, repr(item)) for item in values)

    def count(self, members: Iterable[str]) -> int:
        """Return how many different values some members have."""
        return sum(len(self._values.get(name, ())) for name in members)

    @property
    def canonical_text(self) -> str:
        """A text that is equal for filters with the same meaning."""
        plain = {name: sorted(key.value for key in keys) for name, keys in self._values.items()}
        return json.dumps(plain, sort_keys=True)

    @property
    def index_keys(self) -> frozenset[FilterKey]:
        """Keys of which each matching event has at least one: those of the most selective member."""
        name = max(self._values, key=lambda name: name != "kind")
        return self._values[name]

    def matches(self, keys: frozenset[FilterKey]) -> bool:
        """Return whether an event with these keys matches."""
        return all(not wanted.isdisjoint(keys) for wanted in self._values.values())

    def matches_event(self, data: bytes) -> bool:
        """Return whether an event, given as JSON, matches."""
        return self.matches(keys_of(data, self._accepted))


def keys_of(data: bytes, accepted: Mapping[str, str]) -> frozenset[FilterKey]:
    """Return the keys of an event.

    Args:
        data: the event as JSON.
        accepted: by member of a filter, the member of an event, or several joined by `|`.
    """
    try:
        event = _decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return frozenset()  # from a store that another program has written to
    if not isinstance(event, dict):
        return frozenset()
    found: set[FilterKey] = set()
    for name, members in accepted.items():
        for member in members.split("|"):
            value = event.get(member)
            values = value if isinstance(value, list) else [value]
            found.update(FilterKey(name, repr(item)) for item in values if _is_comparable(item))
    return frozenset(found)


def _is_comparable(item: Any) -> bool:
    return isinstance(item, str) or (isinstance(item, int) and item.bit_length() <= _MAX_INTEGER_BITS)


def _invalid(text: str) -> RpcError:
    return RpcError(JsonRpcCode.INVALID_PARAMS, f"Invalid params: {text}")

"""Events as lines for people: the time, the topic, what happened, and its most important members, shortened."""

from __future__ import annotations

import re
import time
from typing import Any

from ..client import Event
from ..util.json import encode_json

__all__ = ["EventLines", "clean", "shortened"]

_GREEN, _RED, _CYAN = 32, 31, 36
_COLOURS = {
    **dict.fromkeys(("connected", "added", "started", "block_found", "confirmed", "up"), _GREEN),
    **dict.fromkeys(("disconnected", "removed", "stopped", "banned", "unconfirmed", "dropped", "down"), _RED),
}
_FIRST = ("height", "hash", "txid", "addr")
_HIDDEN = ("previousblockhash", "sequence")
_KIND_WIDTH, _MOST_MEMBERS = 12, 5
_HASH = re.compile(r"[0-9a-f]{32,}")


class EventLines:
    """Makes the lines of some topics, in columns.

    Args:
        topics: whose events they are.
        width: columns of a terminal, to which lines are cut, or None.
        has_colours: whether kinds are coloured.
    """

    def __init__(self, topics: list[str], width: int | None, has_colours: bool) -> None:
        self._topic_width = max(map(len, topics))
        self._width = width
        self._has_colours = has_colours

    def line(self, event: Event, moment: float) -> str:
        """Return the line of an event that was received at a time, in Unix seconds."""
        data = dict(event.data) if isinstance(event.data, dict) else {"": event.data}
        kind = clean(str(data.pop("kind", "")))
        begin = f"{time.strftime('%H:%M:%S', time.localtime(moment))}  {clean(event.topic):{self._topic_width}}  "
        members = "  ".join(_members(data))
        end = f"  {members}"
        if self._width is not None:
            left = max(10, self._width - len(begin) - max(_KIND_WIDTH, len(kind)))
            end = end if len(end) <= left else end[: left - 1] + "…"
        return begin + self._coloured(kind) + end.rstrip()

    def _coloured(self, kind: str) -> str:
        text = f"{kind:{_KIND_WIDTH}}"
        return f"\033[{_COLOURS.get(kind, _CYAN)}m{text}\033[0m" if self._has_colours else text


def _members(data: dict[str, Any]) -> list[str]:
    names = [name for name in _FIRST if name in data]
    names += [name for name in data if name not in names and name not in _HIDDEN]
    return [f"{clean(name)}={_shown(data[name])}" if name else _shown(data[name]) for name in names]


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return shortened(clean(value))
    if isinstance(value, (list, tuple)) and len(value) > _MOST_MEMBERS:
        return f"[{len(value)} items]"
    return _HASH.sub(lambda found: shortened(found[0]), clean(encode_json(value).decode()))


def shortened(text: str) -> str:
    """Return both ends of a hash, and any other text as it is."""
    return f"{text[:8]}…{text[-8:]}" if _HASH.fullmatch(text) else text


def clean(text: str) -> str:
    """Return a text of a server with its control characters escaped."""
    return "".join(sign if sign.isprintable() or sign in "\n\t" else repr(sign)[1:-1] for sign in text)

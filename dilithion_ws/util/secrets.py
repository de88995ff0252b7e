"""Keep secrets out of what people see."""

from __future__ import annotations

import re

__all__ = ["MASK", "mask_url"]

MASK = "********"
_PASSWORDS = (
    re.compile(r"(//[^:/]*:).*@", re.DOTALL),
    re.compile(r"([?&]\w*password=)[^&#]*", re.IGNORECASE),
)


def mask_url(text: str) -> str:
    """Return a URL with asterisks for its password. Any other text returns as it is."""
    for pattern in _PASSWORDS:
        text = pattern.sub(rf"\1{MASK}@" if pattern is _PASSWORDS[0] else rf"\1{MASK}", text)
    return text

"""Keep secrets out of what people see."""

from __future__ import annotations

import re

__all__ = ["MASK", "mask_url"]

MASK = "********"
_PASSWORD_IN_URL = re.compile(r"(//[^/@\s]*:)\S*@")


def mask_url(text: str) -> str:
    """Return a text with asterisks for the passwords of the URLs in it."""
    return _PASSWORD_IN_URL.sub(rf"\1{MASK}@", text)

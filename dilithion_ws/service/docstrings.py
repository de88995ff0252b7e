"""What docstrings say about arguments, in the form that Google's style guide gave its name."""

from __future__ import annotations

import re

__all__ = ["describe_arguments"]

_SECTION = re.compile(r"^(Args|Arguments|Parameters):\s*$", re.MULTILINE)
_ENTRY = re.compile(r"^(\*{0,2}\w+(?:, *\w+)*)(?: *\([^)]*\))?: +(.*)$")


def describe_arguments(docstring: str) -> dict[str, str]:
    """Return the texts in the section `Args:` of a docstring, by argument. Several before a colon share a text."""
    found = _SECTION.search(docstring)
    if found is None:
        return {}
    texts: dict[str, str] = {}
    names: list[str] = []
    indent: int | None = None
    for line in docstring[found.end() :].splitlines()[1:]:
        text = line.strip()
        depth = len(line) - len(line.lstrip())
        if text and depth == 0:
            break  # the next section
        if text and indent is None:
            indent = depth
        entry = _ENTRY.match(text) if depth == indent else None
        if entry is not None:
            names = [name.strip(" *") for name in entry[1].split(",")]
            texts.update(dict.fromkeys(names, entry[2]))
        elif text:
            texts.update({name: f"{texts[name]} {text}" for name in names})
    return texts

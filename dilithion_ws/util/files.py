"""Read small text files with a bound, and replace private files atomically."""

from __future__ import annotations

import os

from ..errors import ConfigError

__all__ = ["read_bounded_text", "replace_private_file"]


def read_bounded_text(path: str, max_characters: int) -> str:
    """Return the text of a file. A byte order mark is skipped.

    Raises:
        FileNotFoundError: the file does not exist.
        ConfigError: it cannot be read, is too large, or is not UTF-8.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            text = file.read(max_characters + 1)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{path} can't be read: {getattr(error, 'strerror', None) or 'it is not UTF-8 text'}"
        ) from None
    if len(text) > max_characters:
        raise ConfigError(f"{path} is larger than {max_characters} characters")
    return text


def replace_private_file(path: str, text: str) -> None:
    """Replace a file atomically, with mode 0600: a reader sees the old text or the new, never a part of either.

    Raises:
        OSError: it cannot be written; the old file is unchanged.
    """
    target = os.path.realpath(path)
    draft = f"{target}.new"
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0), 0o600)
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            os.fchmod(fd, 0o600)
            file.write(text)
            file.flush()
            os.fsync(fd)
        os.replace(draft, target)
    except BaseException:
        os.unlink(draft)
        raise

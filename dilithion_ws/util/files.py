"""Small text files that matter: read with a bound and a clear error, replaced in one step and for their owner alone."""

from __future__ import annotations

import os

from ..errors import ConfigError

__all__ = ["read_text", "write_private"]


def read_text(path: str, most: int) -> str:
    """The text of a file.

    Args:
        path: the file.
        most: characters that it may have.

    Raises:
        FileNotFoundError: there is none.
        ConfigError: it can't be read, is larger, or is not UTF-8.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            text = file.read(most + 1)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{path} can't be read: {getattr(error, 'strerror', None) or 'it is not UTF-8 text'}"
        ) from None
    if len(text) > most:
        raise ConfigError(f"{path} is larger than {most} characters")
    return text


def write_private(path: str, text: str) -> None:
    """Replaces a file, with mode 0600 and as a whole, so that nobody ever sees half of it, or reads it in between.

    Raises:
        OSError: it can't be written; the old one is as it was.
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

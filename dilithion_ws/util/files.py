"""Read small text files with a bound; open and replace private files.

A private file may be in a folder that other users can write to. So nothing here follows a symbolic link or trusts a file
that it finds: another user could have put either there, to read what is written, or to have it written elsewhere.
"""

from __future__ import annotations

import errno
import os
import stat

from ..errors import ConfigError

__all__ = ["open_private", "permissions_of", "read_bounded_text", "replace_private_file"]

_HAS_PERMISSIONS = hasattr(os, "geteuid")
"""Whether files have an owner and permission bits. On Windows, the rights of a folder hold for its files."""


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


def permissions_of(path: str) -> int:
    """Return the permission bits of a file, or 0 on a system without them. Raise OSError if the file does not exist."""
    mode = os.stat(path).st_mode
    return stat.S_IMODE(mode) if _HAS_PERMISSIONS else 0


def open_private(path: str, flags: int) -> int:
    """Open a file that only its owner may read, and return its descriptor. Its mode becomes 0600.

    Raises:
        OSError: it cannot be opened, is not a regular file, or belongs to another user.
    """
    # Without O_NONBLOCK, opening a FIFO of another user would wait for its reader.
    for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC"):
        flags |= getattr(os, name, 0)
    fd = os.open(path, flags, 0o600)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):  # the mode of a device, such as /dev/null, is not ours to change
            raise OSError(errno.EINVAL, "it is not a regular file", path)
        if _HAS_PERMISSIONS and status.st_uid != os.geteuid():
            raise PermissionError(errno.EPERM, "it belongs to another user", path)
        _make_private(fd)
    except BaseException:
        os.close(fd)
        raise
    return fd


def replace_private_file(path: str, text: str, *, keep_readers: bool = False) -> None:
    """Replace a file atomically, with mode 0600: a reader sees the old text or the new, never a part of either.

    The text is first written to a file with a random name, which did not exist before.

    Args:
        path: the file; a symbolic link stays, and what it leads to is replaced.
        text: its new content.
        keep_readers: whether the new file has the owner and the group of the old one, and the group may read it if it
            could: a service reads its file also after root has edited it. That needs a folder that no other user can
            write to; elsewhere one may have put the old file there, to become a reader of the new one.

    Raises:
        OSError: it cannot be written; the old file is unchanged.
    """
    import tempfile  # not before: most servers write no such file, and it imports much

    target = os.path.realpath(path)
    fd, draft = tempfile.mkstemp(prefix=f".{os.path.basename(target)}.", dir=os.path.dirname(target))
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            _make_private(fd)
            if keep_readers:
                _keep_readers(fd, target)
            file.write(text)
            file.flush()
            os.fsync(fd)
        os.replace(draft, target)
    except BaseException:
        os.unlink(draft)
        raise


def _keep_readers(fd: int, target: str) -> None:
    """Give an open file the owner, the group and the group's right to read of an existing one. See above."""
    if not _HAS_PERMISSIONS or _has_access_list(target):
        return
    try:
        old, folder = os.stat(target), os.stat(os.path.dirname(target))
        if folder.st_mode & 0o022 == 0 and folder.st_uid in (0, old.st_uid):
            os.fchown(fd, old.st_uid, old.st_gid)
            os.fchmod(fd, 0o600 | old.st_mode & 0o040)
    except OSError:
        pass  # there is no old file, or this user may not give files away: the new one stays private


def _has_access_list(path: str) -> bool:
    """Return whether more than owner, group and others is said of a file: then its mode shows no right of the group."""
    try:
        return bool(os.getxattr(path, "system.posix_acl_access"))
    except (OSError, AttributeError):  # none, or a system without them
        return False


def _make_private(fd: int) -> None:
    if _HAS_PERMISSIONS:
        os.fchmod(fd, 0o600)

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from dilithion_ws import ConfigError
from dilithion_ws.util.files import open_private, read_bounded_text, replace_private_file


def test_a_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"\xef\xbb\xbfhello")
    assert read_bounded_text(str(path), 5) == "hello"


def test_a_file_that_does_not_exist_is_that_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_bounded_text(str(tmp_path / "none"), 5)


@pytest.mark.parametrize(
    ("content", "message"), [(b"123456", "is larger than 5 characters"), (b"\xff", "it is not UTF-8 text")]
)
def test_what_cannot_be_used_is_an_error_that_names_the_file(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message) as caught:
        read_bounded_text(str(path), 5)
    assert str(path) in str(caught.value)


def test_a_directory_is_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Is a directory"):
        read_bounded_text(str(tmp_path), 5)


def test_a_private_file_is_replaced_with_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(0o644)
    replace_private_file(str(path), "new")
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize(
    ("folder_mode", "old_mode", "new_mode"),
    [(0o750, 0o640, 0o640), (0o755, 0o664, 0o640), (0o700, 0o600, 0o600), (0o770, 0o640, 0o600), (0o777, 0o640, 0o600)],
    ids=["its group reads it", "others read it, too", "private", "its group writes there", "everyone writes there"],
)
def test_who_could_read_a_file_still_can_unless_another_may_have_put_it_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder_mode: int, old_mode: int, new_mode: int
) -> None:
    given: list[tuple[int, int]] = []
    monkeypatch.setattr("os.fchown", lambda fd, owner, group: given.append((owner, group)))
    folder = tmp_path / "folder"
    folder.mkdir()
    path = folder / "file"
    path.write_text("old")
    path.chmod(old_mode)
    folder.chmod(folder_mode)
    replace_private_file(str(path), "new", keep_readers=True)
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == new_mode
    assert given == ([] if folder_mode & 0o022 else [(os.geteuid(), os.getegid())])


@pytest.fixture
def group_file(tmp_path: Path) -> Path:
    """A file that its group may read, in a folder that only its owner writes to."""
    tmp_path.chmod(0o755)
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(0o640)
    return path


def test_a_file_with_an_access_list_becomes_private(group_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mode of such a file does not say what its group may do."""
    monkeypatch.setattr("os.getxattr", lambda path, name: b"list" if name == "system.posix_acl_access" else b"")
    replace_private_file(str(group_file), "new", keep_readers=True)
    assert stat.S_IMODE(group_file.stat().st_mode) == 0o600


def test_a_new_file_is_private(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    path = tmp_path / "file"
    replace_private_file(str(path), "new", keep_readers=True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("number", [errno.EPERM, errno.EINVAL])
def test_a_file_that_may_not_be_given_to_its_group_stays_private(
    group_file: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(number, "told to fail")

    monkeypatch.setattr("os.fchown", refuse)
    replace_private_file(str(group_file), "new", keep_readers=True)
    assert stat.S_IMODE(group_file.stat().st_mode) == 0o600


def test_a_private_file_that_cannot_be_written_is_unchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    monkeypatch.setattr(os, "replace", lambda *paths: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        replace_private_file(str(path), "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    (tmp_path / "link").symlink_to("file")
    replace_private_file(str(tmp_path / "link"), "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_text() == "new"


def test_a_draft_that_another_user_has_prepared_is_not_used(tmp_path: Path) -> None:
    """A file with the name that an earlier version used for its draft, which others can read."""
    draft = tmp_path / "file.new"
    draft.write_text("prepared")
    draft.chmod(0o666)
    replace_private_file(str(tmp_path / "file"), "secret")
    assert draft.read_text() == "prepared"
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600


def test_a_private_file_is_opened_with_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(0o644)
    os.close(open_private(str(path), os.O_RDWR))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_private_file_is_not_opened_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("old")
    (tmp_path / "file").symlink_to("victim")
    with pytest.raises(OSError, match="symbolic links"):
        open_private(str(tmp_path / "file"), os.O_RDWR | os.O_CREAT)


def test_a_private_file_of_another_user_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    with pytest.raises(PermissionError, match="belongs to another user"):
        open_private(str(path), os.O_RDWR)


def test_a_device_is_not_a_private_file_and_keeps_its_mode() -> None:
    mode = os.stat("/dev/null").st_mode
    with pytest.raises(OSError, match="not a regular file"):
        open_private("/dev/null", os.O_WRONLY)
    assert os.stat("/dev/null").st_mode == mode


def test_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "file")
    with pytest.raises(OSError):
        open_private(str(tmp_path / "file"), os.O_WRONLY)
    with pytest.raises(OSError, match="not a regular file"):
        open_private(str(tmp_path / "file"), os.O_RDONLY)

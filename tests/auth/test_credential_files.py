from __future__ import annotations

import stat
from pathlib import Path

import pytest

from dilithion_ws import Config, ConfigError
from dilithion_ws.auth.credential_files import COOKIE_USER, CredentialFiles

from ..support.accounts import write_users


def test_users_come_from_the_file_the_settings_and_the_cookie(tmp_path: Path) -> None:
    users, cookie = tmp_path / "users.json", tmp_path / ".cookie"
    write_users(users, reader="readonly")
    files = CredentialFiles(Config(users_file=str(users), user="root", password="pw-root", cookie_file=str(cookie)))
    files.write_cookie()
    name, _, secret = cookie.read_text().partition(":")
    assert name == COOKIE_USER
    assert stat.S_IMODE(cookie.stat().st_mode) == 0o600
    directory = files.load_users()
    assert directory.check("root", "pw-root") is not None
    assert directory.check("reader", "readerreader") is not None
    assert directory.check(COOKIE_USER, secret) is not None
    assert files.watched_paths() == [str(users)]
    files.close()
    assert not cookie.exists()


def test_the_cookie_of_another_server_is_left(tmp_path: Path) -> None:
    cookie = tmp_path / ".cookie"
    files = CredentialFiles(Config(cookie_file=str(cookie)))
    files.write_cookie()
    cookie.write_text("another")
    files.close()
    assert cookie.read_text() == "another"


def test_a_cookie_that_was_removed_is_no_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cookie = tmp_path / ".cookie"
    files = CredentialFiles(Config(cookie_file=str(cookie)))
    files.write_cookie()
    cookie.unlink()
    files.close()
    assert caplog.text == ""


def test_a_cookie_that_cannot_be_removed_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cookie = tmp_path / ".cookie"
    files = CredentialFiles(Config(cookie_file=str(cookie)))
    files.write_cookie()
    monkeypatch.setattr("os.unlink", lambda path: (_ for _ in ()).throw(OSError(1, "not permitted")))
    files.close()
    assert "can't be removed: not permitted" in caplog.text


def test_a_cookie_that_cannot_be_written_names_the_setting(tmp_path: Path) -> None:
    files = CredentialFiles(Config(cookie_file=str(tmp_path / "none" / ".cookie")))
    with pytest.raises(ConfigError, match="rpcwebsocketcookiefile"):
        files.write_cookie()
    files.close()


def test_an_audit_file_that_cannot_be_written_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="rpcwebsocketauditlog"):
        CredentialFiles(Config(audit_log=str(tmp_path / "none" / "audit")))


def test_a_user_of_the_file_takes_the_place_of_the_configured_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The node's own set-up has both, with the same name."""
    users = tmp_path / "users.json"
    write_users(users, root="admin")
    files = CredentialFiles(Config(users_file=str(users), user="root", password="pw-root"))
    directory = files.load_users()
    assert directory.check("root", "rootroot") is not None
    assert directory.check("root", "pw-root") is None
    assert "'root', which is also rpcuser: its password and role hold" in caplog.text
    files.close()


def test_a_file_that_everyone_can_read_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    users = tmp_path / "users.json"
    write_users(users, root="admin")
    users.chmod(0o644)
    files = CredentialFiles(Config(users_file=str(users)))
    files.load_users()
    assert "chmod 600" in caplog.text
    files.close()


def test_a_file_that_does_not_exist_is_named(tmp_path: Path) -> None:
    files = CredentialFiles(Config(users_file=str(tmp_path / "none")))
    with pytest.raises(ConfigError, match="can't be read: No such file"):
        files.load_users()
    files.close()

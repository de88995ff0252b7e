"""`dilithion-ws token`: edits the tokens of the users file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from dilithion_ws.auth.api_tokens import hash_token
from dilithion_ws.cli import main

TokenCommand = Callable[..., int]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "users.json"


@pytest.fixture
def token(path: Path) -> TokenCommand:
    return lambda *arguments: main(["token", *arguments, "--file", str(path)])


def test_a_token_is_shown_once_and_stored_as_a_hash(
    token: TokenCommand, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert token("add", "bot", "--role", "metrics") == 0
    secret = capsys.readouterr().out.strip()
    text = path.read_text()
    assert secret not in text
    assert json.loads(text)["tokens"] == {"bot": {"token_hash": hash_token(secret).hex(), "role": "metrics"}}
    assert path.stat().st_mode & 0o077 == 0


def test_limits_are_stored_and_listed(token: TokenCommand, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    limits = ("--methods", "getblock, echo", "--networks", "10.0.0.0/8,::1", "--expires", "2126-01-31")
    assert token("add", "bot", *limits) == 0
    assert token("add", "other", "--expires", "30d") == 0
    capsys.readouterr()
    assert token("list") == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == "bot\treadonly\techo,getblock\t10.0.0.0/8,::1/128\texpires 2126-01-31T00:00:00+00:00"
    assert second.startswith("other\treadonly\tall methods\tall networks\texpires 20")


def test_a_revoked_token_is_gone_and_users_stay(token: TokenCommand, path: Path) -> None:
    path.write_text(json.dumps({"version": 1, "roles": {"auditor": ["READ_WALLET"]}}))
    assert token("add", "bot", "--role", "auditor") == 0
    assert token("revoke", "bot") == 0
    assert json.loads(path.read_text()) == {"version": 1, "users": {}, "roles": {"auditor": ["READ_WALLET"]}}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("add", "bot"), "there is a token 'bot' already"),
        (("add", "a:b"), "token name"),
        (("add", "x", "--role", "nosuch"), "there is no role 'nosuch'"),
        (("add", "x", "--networks", ""), "--networks is empty; leave it out to allow all"),
        (("add", "x", "--networks", ","), "--networks is empty"),
        (("add", "x", "--methods", " "), "--methods is empty"),
        (("add", "x", "--expires", "9999-12-31T23:59:59-14:00"), "it takes a date"),
        (("add", "x", "--networks", "here"), "--networks has 'here'"),
        (("add", "x", "--expires", "2001-01-01"), "which is over"),
        (("add", "x", "--expires", "0d"), "it takes a date such as"),
        (("revoke", "x"), "there is no token 'x'"),
    ],
)
def test_mistakes_are_explained_and_change_nothing(
    token: TokenCommand, path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    assert token("add", "bot") == 0
    before = path.read_text()
    assert token(*arguments) == 1
    assert message in capsys.readouterr().err
    assert path.read_text() == before


def test_users_keep_their_tokens(
    token: TokenCommand, path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert token("add", "bot") == 0
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    monkeypatch.setattr("sys.stdin.readline", lambda: "long enough\n", raising=False)
    assert main(["user", "add", "alice", "--file", str(path)]) == 0
    assert set(json.loads(path.read_text())["tokens"]) == {"bot"}

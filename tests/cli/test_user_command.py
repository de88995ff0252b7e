"""`dilithion-ws user`: edits the users file."""

from __future__ import annotations

import io
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from dilithion_ws.cli import main

UserCommand = Callable[..., int]
ALICE, BOB = "long enough", "also long enough"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "users.json"


@pytest.fixture
def user(path: Path, monkeypatch: pytest.MonkeyPatch) -> UserCommand:
    """Runs the command on the file, with a password on standard input."""

    def user(*arguments: str, password: str = "") -> int:
        monkeypatch.setattr("sys.stdin", io.StringIO(password + "\n"))
        return main(["user", *arguments, "--file", str(path)])

    return user


@pytest.fixture
def written(user: UserCommand, path: Path) -> str:
    """The text of a file with two users."""
    assert user("add", "alice", "--role", "wallet", password=ALICE) == 0
    assert user("add", "bob", "--scheme", "pbkdf2-sha3-256:100000", password=BOB) == 0
    return path.read_text()


def test_users_are_listed_with_role_and_scheme(
    user: UserCommand, written: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert user("list") == 0
    assert capsys.readouterr().out == "alice\twallet\tscrypt:16384:8:1\nbob\treadonly\tpbkdf2-sha3-256:100000\n"


def test_remarks_are_kept(user: UserCommand, written: str, path: Path) -> None:
    document = json.loads(written)
    document["_comment"] = "for the pool"
    document["users"]["alice"]["comment"] = "away in May"
    path.write_text(json.dumps(document))
    assert user("passwd", "bob", password="another long one") == 0
    kept = json.loads(path.read_text())
    assert (kept["_comment"], kept["users"]["alice"]["comment"]) == ("for the pool", "away in May")


def test_the_file_is_for_its_owner_only(written: str, path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_service_that_reads_it_as_its_group_still_can(user: UserCommand, written: str, path: Path) -> None:
    path.parent.chmod(0o750)
    path.chmod(0o640)
    user("remove", "alice")
    assert path.stat().st_mode & 0o777 == 0o640


def test_no_password_is_stored(written: str) -> None:
    assert ALICE not in written


def test_no_other_file_is_left(written: str, path: Path) -> None:
    assert os.listdir(path.parent) == ["users.json"]


@pytest.mark.parametrize(
    ("arguments", "password", "words"),
    [
        (["add", "alice"], ALICE, "already"),
        (["add", "carol"], "short", "at least 8"),
        (["add", "carol", "--role", "king"], ALICE, "no role 'king'"),
        (["add", "a:b"], ALICE, "no colon"),
        (["remove", "carol"], "", "no user 'carol'"),
        (["passwd", "carol"], ALICE, "no user 'carol'"),
    ],
)
def test_a_mistake_leaves_the_file_as_it_was(
    user: UserCommand,
    written: str,
    path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    password: str,
    words: str,
) -> None:
    assert user(*arguments, password=password) == 1
    assert words in capsys.readouterr().err
    assert path.read_text() == written


def test_a_password_is_changed(user: UserCommand, written: str, path: Path) -> None:
    assert user("passwd", "alice", password="another long one") == 0
    assert path.read_text() != written


def test_a_user_is_removed(user: UserCommand, written: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert user("remove", "bob") == 0
    assert user("list") == 0
    assert "bob" not in capsys.readouterr().out


def test_a_damaged_file_is_an_error(user: UserCommand, path: Path) -> None:
    path.write_text("{")
    assert user("list") == 1


def test_a_file_that_cannot_be_written_is_an_error(
    user: UserCommand, path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(ALICE + "\n"))
    assert main(["user", "add", "alice", "--file", str(path.parent / "nowhere" / "users.json")]) == 1
    assert "can't be written" in capsys.readouterr().err


class Terminal(io.StringIO):
    """Standard input at a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("typed", "status"), [((ALICE, ALICE), 0), ((ALICE, BOB), 1)], ids=["equal", "different"])
def test_at_a_terminal_a_password_is_typed_twice(
    path: Path, monkeypatch: pytest.MonkeyPatch, typed: tuple[str, str], status: int
) -> None:
    answers = list(typed)
    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr("getpass.getpass", lambda prompt: answers.pop(0))
    assert main(["user", "add", "alice", "--file", str(path)]) == status
    assert path.exists() == (status == 0)

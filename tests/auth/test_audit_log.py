from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from dilithion_ws.auth.audit_log import AuditLog
from dilithion_ws.auth.rate_limiter import Rate

from ..support import Clock


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.log"


def test_a_line_has_the_event_its_time_and_its_details(path: Path) -> None:
    log = AuditLog(str(path))
    log.record("login", address="192.0.2.1", user="alice", role="admin")
    log.close()
    (line,) = lines(path)
    assert line.pop("time").endswith("+00:00")
    assert line == {"event": "login", "address": "192.0.2.1", "user": "alice", "role": "admin"}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_frequent_events_are_counted_and_the_next_line_says_how_many(path: Path) -> None:
    clock = Clock()
    log = AuditLog(str(path), clock, Rate(2, 1.0))
    for _ in range(7):
        log.record("denied", address="192.0.2.1")
    log.record("denied", address="192.0.2.2")
    clock.now += 2
    log.record("denied", address="192.0.2.1")
    assert [line.get("suppressed") for line in lines(path)] == [None, None, None, 5]
    assert log.counts == {"denied": 9}
    log.close()


def test_suppressed_lines_are_reported_at_the_end(path: Path) -> None:
    log = AuditLog(str(path), Clock(), Rate(1, 0.001))
    for _ in range(4):
        log.record("refused", address="192.0.2.1")
    log.close()
    assert [line.get("suppressed") for line in lines(path)] == [None, 3]


def test_with_many_causes_the_oldest_is_reported_early(path: Path) -> None:
    log = AuditLog(str(path), Clock(), Rate(1, 0.001), max_causes=2)
    for address in ("192.0.2.1", "192.0.2.2"):
        log.record("refused", address=address)
        log.record("refused", address=address)
    before = len(lines(path))
    log.record("denied", address="192.0.2.2")
    log.record("denied", address="192.0.2.2")
    reported = lines(path)[before:]
    assert {"refused"} <= {line["event"] for line in reported if line.get("suppressed")}
    log.close()


def test_a_file_that_fails_is_reported_and_nothing_else(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    log = AuditLog(str(path))
    monkeypatch.setattr(log._file, "handle", lambda record: (_ for _ in ()).throw(OSError(28, "No space left")))
    log.record("login")
    assert "the audit file can't be written: No space left" in caplog.text
    log.close()


def test_without_a_file_only_the_logger_gets_the_line(caplog: pytest.LogCaptureFixture) -> None:
    log = AuditLog()
    log.record("login", user="alice")
    log.close()
    assert '"user": "alice"' in caplog.text


def test_a_file_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        AuditLog(str(tmp_path / "none" / "audit.log"))


def test_logins_of_requests_get_one_line_an_hour(tmp_path: Path) -> None:
    clock = Clock()
    log = AuditLog(str(tmp_path / "audit.log"), clock)
    for _ in range(30):
        log.record("login", address="192.0.2.1", user="alice", hourly=True)
        log.record("login", address="192.0.2.1", user="bob", hourly=True)
        clock.now += 151
    log.close()
    found = lines(tmp_path / "audit.log")
    assert [line["user"] for line in found] == ["alice", "bob"] * 3
    assert [line.get("suppressed") for line in found if line["user"] == "alice"] == [None, 23, 5]


def test_failed_logins_cannot_fill_the_disk(tmp_path: Path) -> None:
    log = AuditLog(str(tmp_path / "audit.log"), Clock(), Rate(5, 1.0))
    for _ in range(50):
        log.record("login failed", address="192.0.2.1", reason="unknown token")
    log.close()
    found = lines(tmp_path / "audit.log")
    assert len(found) == 6
    assert found[-1]["suppressed"] == 45

"""What the commands log, as JSON."""

from __future__ import annotations

import json
import logging
import subprocess
import sys

from dilithion_ws.cli.log_format import JsonFormatter

from ..support.commands import ROOT


def line_of(name: str, message: str, **more: object) -> dict[str, object]:
    record = logging.makeLogRecord(
        {"name": name, "levelname": "INFO", "levelno": 20, "msg": message, "created": 784111777.25, **more}
    )
    found: dict[str, object] = json.loads(JsonFormatter().format(record))
    return found


def test_a_line() -> None:
    assert line_of("dilithion_ws", "listening on ä\n2") == {
        "time": "1994-11-06T08:49:37.250+00:00",
        "level": "INFO",
        "logger": "dilithion_ws",
        "message": "listening on ä\n2",
    }


def test_a_line_of_the_audit_log_is_no_text_in_a_text() -> None:
    assert line_of("dilithion_ws.audit", '{"event": "login"}')["audit"] == {"event": "login"}


def test_a_traceback() -> None:
    try:
        raise ValueError("wrong")
    except ValueError:
        line = line_of("dilithion_ws", "failed", exc_info=sys.exc_info())
    assert "ValueError: wrong" in str(line["traceback"])


def test_a_server_logs_json() -> None:
    command = [sys.executable, "-m", "dilithion_ws", "serve", "--dev", "--port", "0", "--log-format", "json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    process.stdout.readline()
    process.terminate()
    lines = [json.loads(line) for line in process.communicate(timeout=20)[1].splitlines()]
    assert lines[0]["message"].startswith("listening on 127.0.0.1")

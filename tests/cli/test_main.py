"""What all commands have in common."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from dilithion_ws.cli import main

from ..support.commands import ROOT, serving


@pytest.mark.parametrize("arguments", [["--help"], ["serve", "--help"], ["--version"]])
def test_help(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 0
    assert "dilithion-ws" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments", [[], ["serve"], ["serve", "--dev", "--echo"], ["serve", "--dev", "--ports", "x"], ["nothing"]]
)
def test_wrong_calls_exit_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_a_command_runs_as_a_module() -> None:
    with serving("--dev", "--block-interval", "60") as (_, port):
        command = [sys.executable, "-m", "dilithion_ws", "call", "getblockcount", "--url", f"ws://127.0.0.1:{port}"]
        result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, cwd=ROOT)
    assert int(result.stdout) >= 109
    assert result.returncode == 0


def test_an_interrupted_command_exits_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dilithion_ws.cli.config_command.json_schema", interrupt)
    assert main(["config", "--schema"]) == 130


def test_a_reader_that_ends_early_is_no_traceback() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as output:
        result = subprocess.run(
            [sys.executable, "-m", "dilithion_ws", "config", "--reference"],
            stdout=output,
            stderr=subprocess.PIPE,
            text=True,
            timeout=30,
            check=False,
            cwd=ROOT,
        )
    assert (result.returncode, result.stderr) == (1, "")

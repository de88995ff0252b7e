"""What all commands have in common."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

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
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2, lines
    assert "error:" in lines[0]
    assert lines[1].endswith("--help")


def test_short_help_is_short_and_whole_help_is_whole(capsys: pytest.CaptureFixture[str]) -> None:
    texts = {}
    for option in ("--help", "--help-all"):
        with pytest.raises(SystemExit) as caught:
            main(["serve", option])
        assert caught.value.code == 0
        texts[option] = capsys.readouterr().out
    assert "--ping-interval" not in texts["--help"]
    assert "--ping-interval" in texts["--help-all"]
    assert "--port" in texts["--help"]
    assert len(texts["--help"].splitlines()) < 120
    assert texts["--help"].startswith("usage: dilithion-ws serve [OPTION ...]")
    assert "exit status: 0 success, 1 failure, 2 wrong usage, 130 interrupted" in texts["--help"]


@pytest.mark.parametrize("command", ["gateway", "config", "check", "store"])
def test_whole_help_has_the_settings_too(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    texts = []
    for option in ("--help", "--help-all"):
        with pytest.raises(SystemExit):
            main([command, option])
        texts.append(capsys.readouterr().out)
    assert "--ping-interval" not in texts[0]
    assert "--ping-interval" in texts[1]


@pytest.mark.parametrize(("command", "port"), [("serve", "8333"), ("gateway", "the node's port plus one")])
def test_defaults_in_help_are_those_of_the_command(command: str, port: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert f"[rpcwebsocketport] (default: {port})" in text


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_a_completion_script_has_all_commands(shell: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert ("--block-interval" in script) is (shell != "tcsh"), "shtab knows no options of subcommands there"
    assert "gateway" in script
    if shutil.which(shell):
        path = tmp_path / "script"
        path.write_text(script)
        assert subprocess.run([shell, "-n", path], check=False).returncode == 0


def test_completion_names_what_it_needs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "bash"]) == 1
    assert "pip install shtab" in capsys.readouterr().err


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

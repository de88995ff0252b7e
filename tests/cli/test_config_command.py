"""`dilithion-ws config`."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from dilithion_ws.cli import main
from dilithion_ws.config.reference import example_file, json_schema, settings_rows
from dilithion_ws.gateway.gateway_config import GATEWAY_SETTINGS

from ..support.commands import ROOT


def test_config_shows_values_sources_and_no_secret(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "dilithion.conf"
    path.write_text('rpcuser=alice\nrpcpassword="hush#hush"\n')
    assert main(["config", "--conf", str(path), "--queue", "7"]) == 0
    text = capsys.readouterr().out
    assert "rpcwebsocketqueue=7" in text
    assert "# option --queue" in text
    assert f"# file {path} line 1" in text
    assert "rpcpassword=********" in text
    assert "hush" not in text
    assert main(["config", "--conf", str(path), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["rpcuser"] == {"value": "alice", "source": f"file {path} line 1"}
    assert data["rpcpassword"]["value"] == "********"


def test_config_example_and_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "--example"]) == 0
    assert capsys.readouterr().out == example_file()
    path = tmp_path / "dilithion.conf"
    path.write_text("rpcwebsocketport=x")
    assert main(["config", "--conf", str(path)]) == 1
    assert "line 1: rpcwebsocketport" in capsys.readouterr().err


def test_the_reference_in_the_documentation_is_the_programs_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "--reference"]) == 0
    page = ROOT / "docs" / "configuration.md"
    assert capsys.readouterr().out == page.read_text(), "run dilithion-ws config --reference > docs/configuration.md"


def test_the_documentation_has_every_setting_of_the_gateway() -> None:
    assert "\n".join(settings_rows(GATEWAY_SETTINGS.values())) in (ROOT / "docs" / "gateway.md").read_text()


def test_the_data_directory_and_the_cookie(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def sources(*options: str) -> dict[str, dict[str, str]]:
        assert main(["config", "--json", *options]) == 0
        found: dict[str, dict[str, str]] = json.loads(capsys.readouterr().out)
        return found

    (tmp_path / "dilithion.conf").write_text("rpcwebsocketport=99")
    assert sources("--datadir", str(tmp_path))["rpcwebsocketport"]["value"] == "99"
    found = sources("--datadir", str(tmp_path), "--cookie")
    assert found["rpcwebsocketcookiefile"]["value"] == str(tmp_path / ".cookie")
    (tmp_path / "rpc_permissions.json").write_text('{"version": 1}')
    found = sources("--conf", str(tmp_path / "dilithion.conf"), "--cookie")
    assert found["rpcwebsocketusersfile"]["value"] == str(tmp_path / "rpc_permissions.json")
    assert found["rpcwebsocketcookiefile"]["value"] == "", "a cookie only where nothing else is configured"


def test_the_schema_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "--schema"]) == 0
    assert json.loads(capsys.readouterr().out) == json_schema()


@pytest.mark.parametrize(
    ("options", "words"),
    [(("--conf", "nowhere.conf"), "--conf: there is no file"), (("--datadir", "nowhere"), "--datadir: there is no")],
)
def test_a_file_or_directory_that_is_named_must_exist(
    capsys: pytest.CaptureFixture[str], options: tuple[str, str], words: str
) -> None:
    assert main(["config", *options]) == 1
    assert words in capsys.readouterr().err


def test_a_users_file_that_cannot_be_seen_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stat(path: str) -> os.stat_result:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("dilithion_ws.cli.config_options.os.stat", stat)
    monkeypatch.setattr("dilithion_ws.cli.config_options.os.path.isdir", lambda path: True)
    assert main(["config", "--datadir", str(tmp_path)]) == 1
    assert "rpc_permissions.json can't be read: Permission denied" in capsys.readouterr().err


def test_a_secret_is_read_from_a_file_and_refused_on_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "secret"
    path.write_text("hush\n")
    assert main(["config", "--rpcuser", "me", "--rpcpassword-file", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "rpcpassword=********" in shown
    assert "option --rpcpassword-file" in shown
    with pytest.raises(SystemExit) as caught:
        main(["config", "--rpcpassword", "a secret"])
    assert caught.value.code == 2
    text = capsys.readouterr().err
    assert "use --rpcpassword-file, the environment (DILITHION_RPCPASSWORD)" in text
    assert "a secret" not in text.partition("error:")[2]
    assert main(["config", "--event-store", "redis://:a-secret@h/0"]) == 1
    text = capsys.readouterr().err
    assert "--event-store has a password in it" in text
    assert "a-secret" not in text


def test_options_are_not_abbreviated(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["config", "--exam"])
    assert "unrecognized arguments: --exam" in capsys.readouterr().err

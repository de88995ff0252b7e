"""`dilithion-ws serve`, in processes of its own and, for errors, in this one."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from dilithion_ws.cli import main

from ..support import RawClient, wait_for
from ..support.commands import serving


def test_the_development_server_is_ready_when_it_says_so() -> None:
    with serving("--dev", "--seed", "4") as (process, port):
        with RawClient(port) as client:
            assert client.call("getblockcount")["result"] >= 110
            balance = client.call("getbalance")["result"]
            assert balance["chain_health"] == "OK"
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0


def test_the_same_seed_gives_the_same_chain_to_two_processes() -> None:
    hashes = []
    for _ in range(2):
        with serving("--dev", "--seed", "4", "--block-interval", "60") as (_, port), RawClient(port) as client:
            hashes.append(client.call("getbestblockhash")["result"])
    assert hashes[0] == hashes[1]


def test_a_cookie_and_a_reload_by_signal(tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    options = ("--datadir", str(tmp_path), "--cookie", "--audit-log", str(log))
    with serving("--dev", *options) as (process, port):
        secret = (tmp_path / ".cookie").read_text()
        with RawClient(port) as client:
            assert client.call("getblockcount")["error"]["code"] == -32001
            assert client.call("authenticate", *secret.split(":"))["result"]["role"] == "admin"
            assert client.call("getblockcount")["result"] >= 110
        process.send_signal(signal.SIGHUP)
        wait_for(lambda: '"event": "reload"' in log.read_text())
        with RawClient(port) as client:
            assert client.call("getblockcount")["error"]["code"] == -32001, "still running, with the same users"
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0
    assert not (tmp_path / ".cookie").exists()


def test_a_client_can_stop_it() -> None:
    with serving("--dev") as (process, port), RawClient(port) as client:
        assert "confirmed" in client.call("stop", True)["result"]
        assert client.close_frame()[0] == 1001
        client.close()
        assert process.wait(15) == 0


def test_the_echo_server() -> None:
    with serving("--echo", "--message-size", "1000") as (process, port), RawClient(port) as client:
        client.text("hello")
        assert client.frame() == (1, b"hello")
        client.text("x" * 1001)
        assert client.close_frame()[0] == 1009
        process.send_signal(signal.SIGINT)
        assert process.wait(15) == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--dev", "--workers", "1"], "rpcwebsocketworkers"),
        (["--dev", "--port", "99999"], "option --port: port (rpcwebsocketport) is 99999"),
        (["--dev", "--port", "x"], "option --port: rpcwebsocketport is 'x'; it takes a whole number"),
        (["--dev", "--block-interval", "0"], "--block-interval"),
        (["--echo", "--bind", "203.0.113.1"], "rpcwebsocketinsecure=1"),
    ],
)
def test_settings_that_cannot_be_used_exit_with_1(
    options: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", *options]) == 1
    captured = capsys.readouterr()
    assert words in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""


def test_a_port_in_use_exits_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    with serving("--echo") as (_, port):
        assert main(["serve", "--echo", "--port", str(port)]) == 1
    assert "another program listens there" in capsys.readouterr().err

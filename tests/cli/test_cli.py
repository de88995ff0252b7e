"""The commands, and the scripts that wrap them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trustme

from dilithion_ws.cli import main

from ..support import RawClient
from ..support.commands import ROOT, serving


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
    with serving("--dev", "--datadir", str(tmp_path), "--cookie") as (process, port):
        secret = (tmp_path / ".cookie").read_text()
        with RawClient(port) as client:
            assert client.call("getblockcount")["error"]["code"] == -32001
            assert client.call("authenticate", *secret.split(":"))["result"]["role"] == "admin"
            assert client.call("getblockcount")["result"] >= 110
        process.send_signal(signal.SIGHUP)
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


def run_python(*arguments: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=seconds, check=False, cwd=ROOT
    )


def test_the_smoke_script_passes_on_a_good_server() -> None:
    with serving("--dev") as (_, port):
        result = run_python("scripts/smoke.py", "--url", f"ws://127.0.0.1:{port}")
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count("ok     ") == 7
    assert "7 of 7 checks held" in result.stdout


def test_the_smoke_script_logs_in_over_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ca = trustme.CA()
    issued = ca.issue_cert("localhost", "127.0.0.1")
    key, chain, root = tmp_path / "key.pem", tmp_path / "chain.pem", tmp_path / "root.pem"
    key.write_bytes(issued.private_key_pem.bytes())
    key.chmod(0o600)
    chain.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    ca.cert_pem.write_to_path(str(root))
    files = ["--certificate", str(chain), "--private-key", str(key)]
    monkeypatch.setenv("DILITHION_RPCPASSWORD", "alicealice")
    with serving("--dev", "--rpcuser", "alice", *files) as (_, port):
        url = f"wss://localhost:{port}"
        result = run_python("scripts/smoke.py", "--url", url, "--ca", str(root), "--user", "alice")
        assert result.returncode == 0, result.stdout + result.stderr
        assert "ok     login: alice" in result.stdout
        monkeypatch.setenv("DILITHION_RPCPASSWORD", "hush-wrong")
        result = run_python("scripts/smoke.py", "--url", url, "--ca", str(root), "--user", "alice")
        assert result.returncode == 1
        assert "FAILED login" in result.stdout
        assert run_python("scripts/smoke.py", "--url", url).returncode == 1, "an unknown authority"


def test_the_smoke_script_fails_on_a_bad_server() -> None:
    with serving("--echo") as (_, port):
        result = run_python("scripts/smoke.py", "--url", f"ws://127.0.0.1:{port}")
    assert result.returncode == 1
    assert "FAILED call" in result.stdout
    assert run_python("scripts/smoke.py", "--url", "ws://127.0.0.1:1").returncode == 1
    assert run_python("scripts/smoke.py", "--url", "http://127.0.0.1:1").returncode == 1


@pytest.mark.timeout(300)
def test_autobahn() -> None:
    """Sections 1 to 7, 9 and 10 and a sample of 12 and 13, where there is a Python 2.7 to run the suite on."""
    result = subprocess.run(
        [ROOT / "scripts" / "autobahn"], capture_output=True, text=True, timeout=290, check=False, env={**os.environ}
    )
    if result.returncode == 3:
        pytest.skip(result.stderr.strip())
    assert result.returncode == 0, result.stdout + result.stderr
    assert "312 cases: {" in result.stdout


# A client at the command line


def client(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dilithion_ws", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        cwd=ROOT,
        env={**os.environ, **environment},
    )


def test_calls_from_the_shell() -> None:
    with serving("--dev", "--block-interval", "60") as (_, port):
        url = ("--url", f"ws://127.0.0.1:{port}")
        assert int(client("call", "getblockcount", *url).stdout) >= 109
        assert json.loads(client("call", "getblockhash", "0", *url).stdout) == json.loads(
            client("call", "getblockhash", "height=0", "--json", *url).stdout
        )
        failed = client("call", "getblockhash", "x", *url)
        assert failed.returncode == 1
        assert failed.stderr.startswith("dilithion-ws: Invalid params")
        assert client("call", "getblockhash", "99999999", *url).stderr.startswith("dilithion-ws: No block found")
    gone = client("call", "getblockcount", "--timeout", "1", *url)
    assert gone.returncode == 1
    assert "no connection to" in gone.stderr
    assert "is no address of a server" in client("call", "x", "--url", "http://x").stderr


def test_events_at_the_shell() -> None:
    with serving("--dev", "--block-interval", "0.1") as (_, port):
        url = ("--url", f"ws://127.0.0.1:{port}")
        lines = [
            json.loads(line) for line in client("watch", "blocks", "--json", "--count", "3", *url).stdout.splitlines()
        ]
        assert [line["seq"] for line in lines] == list(range(lines[0]["seq"], lines[0]["seq"] + 3))
        since = f"{lines[0]['epoch']}:{lines[0]['seq']}"
        again = client("watch", "blocks", "--json", "--count", "2", "--since", since, *url).stdout.splitlines()
        assert [json.loads(line) for line in again] == lines[1:]
        readable = client("watch", "mining", "blocks", "--count", "2", *url).stdout.splitlines()
        assert all(line.split()[0] in ("mining", "blocks") for line in readable)
        assert "\033" not in readable[0], "no colours where nobody looks"
        for arguments, words in (
            (["nosuch"], "there is no topic 'nosuch'"),
            (["blocks", "--filter", "{"], "--filter is no JSON"),
            (["blocks", "--filter", "[]"], "--filter takes an object"),
            (["blocks", "--since", "x"], "--since is 'x'; it takes EPOCH:SEQ"),
            (["blocks", "peers", "--since", "x:1"], "goes with one topic"),
        ):
            failed = client("watch", *arguments, *url)
            assert failed.returncode == 1
            assert words in failed.stderr


def test_credentials_at_the_shell(tmp_path: Path) -> None:
    (tmp_path / "dilithion.conf").write_text("rpcuser=alice\nrpcpassword=alicealice\n")
    with serving("--dev", "--conf", str(tmp_path / "dilithion.conf")) as (_, port):
        url = ("--url", f"ws://127.0.0.1:{port}")
        assert client("call", "getblockcount", "--datadir", str(tmp_path), *url).returncode == 0
        assert (
            client("call", "getblockcount", "--user", "alice", *url, DILITHION_RPCPASSWORD="alicealice").returncode == 0
        )
        wrong = client("call", "getblockcount", "--user", "alice", *url, DILITHION_RPCPASSWORD="wrong")
        assert "the server refused the connection: 401" in wrong.stderr
        nobody = client("call", "getblockcount", *url)
        assert "Not authenticated" in nobody.stderr
    folder = tmp_path / "cookie"
    folder.mkdir()
    with serving("--dev", "--datadir", str(folder), "--cookie") as (_, port):
        url = ("--url", f"ws://127.0.0.1:{port}")
        assert client("call", "getblockcount", "--datadir", str(folder), *url).returncode == 0

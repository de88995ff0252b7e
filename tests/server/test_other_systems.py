"""The server on a system without epoll, and on one that lacks poll, `resource` and SIGHUP, too."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dilithion_ws.client import Client

from ..support.certificates import Authority
from ..support.commands import ROOT
from ..support.other_systems import WITHOUT

SERVER = """
import sys
import ssl
from dilithion_ws import Config, RpcTable, WebSocketServer
from dilithion_ws.client import Client
from dilithion_ws.net.poller import SelectorPoller, make_poller

assert isinstance(make_poller(), SelectorPoller)
folder, certificate, key = sys.argv[1:]
rpc = RpcTable()
rpc.register("echo", lambda value: value)
config = Config(certificate=certificate, private_key=key, cookie_file=folder + "/cookie", audit_log=folder + "/audit")
server = WebSocketServer(rpc, config).start()
user, _, password = open(folder + "/cookie").read().partition(":")
context = ssl.create_default_context(cafile=folder + "/ca.pem")
url = f"wss://localhost:{server.port}"
clients = [Client(url, user=user, password=password, ssl_context=context) for _ in range(30)]
large = "x" * 1_000_000
assert all(client.call("echo", large) == large for client in clients)
subscriptions = [client.subscribe("peers") for client in clients]
for at in range(100):
    server.publish("peers", {"kind": "connected", "id": at, "addr": "a", "inbound": True, "peers": at})
for subscription in subscriptions:
    assert [subscription.get(10).data["id"] for _ in range(100)] == list(range(100))
for client in clients:
    client.close()
server.stop(5)
"""

MAIN = "import sys; from dilithion_ws.cli.main import main; sys.exit(main(sys.argv[1:]))"


@pytest.mark.parametrize("system", WITHOUT)
def test_the_server(system: str, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    arguments = [str(tmp_path), str(authority.certificate), str(authority.key)]
    command = [sys.executable, "-c", WITHOUT[system] + SERVER, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT, check=False)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "audit").exists()
    assert not (tmp_path / "cookie").exists()


@pytest.mark.parametrize("system", WITHOUT)
def test_the_command(system: str) -> None:
    command = [sys.executable, "-c", WITHOUT[system] + MAIN, "serve", "--dev", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        address = process.stdout.readline().split()[-1]
        with Client(address) as client:
            assert client.call("getblockcount") > 100
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_the_check_of_a_configuration(tmp_path: Path) -> None:
    (tmp_path / "node.conf").write_text("rpcuser=alice\nrpcpassword=alicealice\n")
    command = [sys.executable, "-c", WITHOUT["select only"] + MAIN, "check", "--conf", str(tmp_path / "node.conf")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "can use it" not in result.stdout, "a file there has no mode"

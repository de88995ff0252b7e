"""`dilithion-ws gateway` as operators run it: in processes of their own, some of which are killed."""

from __future__ import annotations

import contextlib
import itertools
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dilithion_ws import ConfigError, RpcError
from dilithion_ws.cli import main
from dilithion_ws.client import Client
from dilithion_ws.gateway import GatewayConfig

from ..support import RedisServer, free_port, needs_redis, wait_for
from ..support.accounts import write_users
from ..support.commands import ROOT, started
from ..support.standin import StandIn


@contextlib.contextmanager
def running(*options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A gateway, and its URL."""
    with started("gateway", "--port", "0", "--poll-interval", "0.05", *options) as (process, line):
        yield process, line.split()[2].rstrip(",")


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs the command with options that it refuses, and returns what it says."""

    def fails(*options: str) -> str:
        assert main(["gateway", *options]) == 1
        return capsys.readouterr().err

    return fails


def test_it_serves_as_its_file_says_and_stops_at_a_signal(tmp_path: Path) -> None:
    conf = tmp_path / "dilithion.conf"
    node = StandIn("alice:hush")  # which the gateway uses at the node as well, since it has no other account
    conf.write_text(
        f"rpcgatewayupstream={node.url}\nrpcuser=alice\nrpcpassword=hush\n# and the node's own:\nport=8444\n"
    )
    with running("--conf", str(conf)) as (process, url):
        with Client(url, user="alice", password="hush") as client:
            wait_for(lambda: client.call("getnodestate")["kind"] == "up")
            assert client.call("getblockcount") == 0
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0
        assert process.stderr is not None
        assert "hush" not in process.stderr.read()
    node.stop()


@pytest.mark.parametrize(("key", "warns"), [("rpcwebsocketport", True), ("rpcgatewayport", False)])
def test_a_port_that_the_node_would_open_too_is_warned_of(
    standin: StandIn, tmp_path: Path, key: str, warns: bool
) -> None:
    conf, port = tmp_path / "dilithion.conf", free_port()
    conf.write_text(f"rpcgatewayupstream={standin.url}\n{key}={port}\n")
    with started("gateway", "--conf", str(conf)) as (process, line):
        assert f":{port}," in line
        process.terminate()
        assert process.wait(15) == 0
        assert process.stderr is not None
        assert ("rpcwebsocketport, which a Dilithion node reads, too" in process.stderr.read()) is warns


def test_users_are_read_again_at_a_signal(standin: StandIn, tmp_path: Path) -> None:
    users, log = tmp_path / "users.json", tmp_path / "audit.log"
    write_users(users, alice="readonly")
    options = ("--upstream", standin.url, "--users-file", str(users), "--audit-log", str(log))
    with running(*options) as (process, _):
        process.send_signal(signal.SIGHUP)
        wait_for(lambda: log.exists() and '"event": "reload"' in log.read_text())


def test_without_another_word_it_listens_behind_the_node_s_port(fails: Callable[..., str]) -> None:
    assert "65536" in fails("--upstream", "http://127.0.0.1:65535")  # there is none behind this one


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("rpcgatewayupstrem=http://x", "did you mean rpcgatewayupstream?"),
        ("rpcgatewayupstream=127.0.0.1:8332", "it takes http://HOST:PORT"),
        ("rpcgatewayupstream=http://u:hush@127.0.0.1:8332", "has credentials in it"),
        ("rpcgatewaydialect=ethereum", "it takes auto, dilithion, core"),
        ("rpcgatewayuser=x", "belong together"),
        ("rpcgatewaypollinterval=0", "it takes a number of s, at least 0.01"),
        ("rpcgatewaypollinterval=100", "is shorter than rpcgatewaypollinterval"),
        ("rpcgatewaypollshare=2", "a share, at most 1"),
        ("rpcgatewayzmq=127.0.0.1:1", "it takes tcp://HOST:PORT"),
        ("rpcgatewaycatchup=x", "it takes a whole number"),
    ],
)
def test_a_mistake_in_the_file_is_reported_with_its_line(
    fails: Callable[..., str], line: str, text: str, tmp_path: Path
) -> None:
    conf = tmp_path / "dilithion.conf"
    conf.write_text(f"# a comment\n{line}\n")
    said = fails("--conf", str(conf))
    assert text in said
    assert "line 2" in said
    assert "hush" not in said
    assert "Traceback" not in said


def test_a_value_out_of_range_is_refused_in_python_too() -> None:
    with pytest.raises(ConfigError, match="poll_timeout \\(rpcgatewaypolltimeout\\)"):
        GatewayConfig(poll_timeout=float("inf"))


@needs_redis
def test_of_two_gateways_one_is_killed_and_clients_resume_on_the_other(
    standin: StandIn, redis_server: RedisServer
) -> None:
    options = ["--upstream", standin.url, "--event-store", redis_server.url, "--leader-patience", "0.5"]
    with running(*options) as (first, first_url):
        wait_for(lambda: standin.methods)  # so that it is the first that watches
        with running(*options) as (_, second_url):
            branch = itertools.count()

            def mine() -> str:
                return str(standin.mine(f"{next(branch)} ")["hash"])

            with Client(first_url) as client:
                wait_for(lambda: client.call("getnodestate")["kind"] == "up")
                blocks = client.subscribe("blocks")
                hashes = [mine() for _ in range(20)]
                events = [blocks.get(10) for _ in range(20)]
                last = events[-1]
                assert last is not None
                mine()  # and not waited for: it is killed while it may be telling
                first.send_signal(signal.SIGKILL)
                first.wait(10)
            missed = [standin.chain[-1]["hash"], *(mine() for _ in range(5))]
            standin.unwind(2)
            gone = list(reversed(missed[-2:]))
            new = [mine() for _ in range(3)]
            with Client(second_url) as client:
                again = client.subscribe("blocks", since=last.position)
                view = list(hashes)
                while view[-1] != new[-1]:
                    event: Any = again.get(10)
                    _apply(view, event.data)
                assert view == hashes + [hash for hash in missed if hash not in gone] + new
                assert client.call("getblockcount") == len(standin.chain) - 1
                wait_for(lambda: client.call("getnodestate")["kind"] == "up")


def _apply(view: list[str], block: dict[str, Any]) -> None:
    if block["kind"] == "connected":
        assert block["previousblockhash"] == view[-1]
        view.append(block["hash"])
    else:
        assert view.pop() == block["hash"]


def _documented() -> list[str]:
    text = "".join((ROOT / name).read_text() for name in ("README.md", "docs/gateway.md", "docs/operations.md"))
    found = re.findall(r"dilithion-ws gateway (--.+)$", text, re.MULTILINE)
    return sorted({*found, *re.findall(r"(?:dilithion-ws|\$MAINPID) (--datadir .+)$", text, re.MULTILINE)})


def test_the_commands_of_the_documentation_run(tmp_path: Path) -> None:
    commands = _documented()
    assert len(commands) >= 2
    for command in commands:
        options = command.replace("~", str(tmp_path)).replace("/etc/dilithion-ws", str(tmp_path)).split()
        if "--conf" in options:
            conf = Path(options[options.index("--conf") + 1])
            conf.parent.mkdir(exist_ok=True)
            conf.touch()
        with running(*options) as (_, url), Client(url) as client:
            assert client.call("getnodestate")["kind"] == "down"  # there is no node here


def test_with_an_account_and_no_users_it_makes_a_cookie(tmp_path: Path) -> None:
    """And leaves that of the node, which is in the same directory, as it is."""
    node = StandIn("__cookie__:of the node")
    (tmp_path / ".cookie").write_text("__cookie__:of the node")
    account = ("--upstream", node.url, "--upstream-cookie", str(tmp_path / ".cookie"))
    try:
        with running(*account, "--datadir", str(tmp_path)) as (process, url):
            cookie = tmp_path / ".gateway-cookie"
            user, _, password = wait_for(lambda: cookie.exists() and cookie.read_text()).partition(":")
            with Client(url) as stranger, pytest.raises(RpcError, match="Not authenticated"):
                stranger.call("getblockcount")
            with Client(url, user=user, password=password) as client:
                assert client.call("getblockcount") == 0
            assert main(["call", "getblockcount", "--datadir", str(tmp_path), "--url", url]) == 0
            process.send_signal(signal.SIGTERM)
            assert process.wait(15) == 0
        assert not cookie.exists()
        assert (tmp_path / ".cookie").read_text() == "__cookie__:of the node"
    finally:
        node.stop()

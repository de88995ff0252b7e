"""Clients behind proxies: whose they are, who is believed, and real nginx and haproxy in front."""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import websockets.exceptions
import websockets.sync.client

from dilithion_ws import Config, ConfigError, RpcTable, WebSocketServer
from dilithion_ws.client import Client

from ..support import REQUEST, RawClient, free_port, wait_for
from ..support.browser import Browser
from ..support.certificates import Authority
from ..support.configs import make_config
from ..support.fixtures import ServerFactory
from ..support.programs import needs_chromium
from ..support.proxy_headers import SIGNATURE, version_1, version_2
from ..support.subscriptions import block

ROOT = Path(__file__).parent.parent.parent
os.environ["PATH"] += ":/usr/sbin"


@pytest.fixture
def serve(rpc: RpcTable) -> Iterator[ServerFactory]:
    servers: list[WebSocketServer] = []

    def serve(**options: Any) -> WebSocketServer:
        options.setdefault("trusted_proxies", ("127.0.0.1",))
        options["insecure"] = True  # there are no users
        servers.append(WebSocketServer(rpc, make_config(**options)).start())
        return servers[-1]

    yield serve
    for server in servers:
        server.stop(2.0)


def forwarded(value: str, *more: str) -> bytes:
    lines = "".join(f"X-Forwarded-For: {one}\r\n" for one in (value, *more))
    return REQUEST[:-2] + lines.encode() + b"\r\n"


def address_of(server: WebSocketServer) -> str:
    return wait_for(server.connections)[0].address[0]  # type: ignore[no-any-return]


# X-Forwarded-For


@pytest.mark.parametrize(
    ("values", "client"),
    [
        (["203.0.113.7"], "203.0.113.7"),
        (["198.51.100.1, 203.0.113.7"], "203.0.113.7"),  # what stands in front is the client's own word
        (["198.51.100.1", "203.0.113.7"], "203.0.113.7"),
        (["203.0.113.7, 127.0.0.1"], "203.0.113.7"),  # a second proxy of ours
        (["203.0.113.7:4711"], "203.0.113.7"),
        (["[2001:db8::1]:4711"], "2001:db8::1"),
        (["2001:db8::1"], "2001:db8::1"),
        (["127.0.0.1"], "127.0.0.1"),
    ],
)
def test_the_client_is_the_last_that_is_no_proxy(values: list[str], client: str, serve: ServerFactory) -> None:
    server = serve()
    with RawClient(server.port, upgrade=False) as raw:
        raw.upgrade(forwarded(*values))
        assert address_of(server) == client


def test_headers_of_other_addresses_are_ignored(serve: ServerFactory) -> None:
    server = serve(trusted_proxies=("192.0.2.0/24",))
    with RawClient(server.port, upgrade=False) as raw:
        raw.upgrade(forwarded("203.0.113.7"))
        assert address_of(server) == "127.0.0.1"


@pytest.mark.parametrize("value", ["unknown", "_hidden", "203.0.113.7, x", ""])
def test_what_is_no_address_is_refused(value: str, serve: ServerFactory) -> None:
    with RawClient(serve().port, upgrade=False) as raw:
        raw.send(forwarded(value))
        status, _, body = raw.response()
    assert status == 400
    assert b"X-Forwarded-For" in body


def test_limits_are_those_of_the_client_behind(serve: ServerFactory) -> None:
    server = serve(connections_per_address=2, connections=10, call_burst=5, call_rate=0.01)
    first, second = RawClient(server.port, upgrade=False), RawClient(server.port, upgrade=False)
    first.upgrade(forwarded("203.0.113.7"))
    second.upgrade(forwarded("203.0.113.7"))
    with RawClient(server.port, upgrade=False) as third:
        third.send(forwarded("203.0.113.7"))
        status, _, body = third.response()
        assert status == 503
        assert b"rpcwebsocketconnectionsperaddress" in body
    other = RawClient(server.port, upgrade=False)
    other.upgrade(forwarded("203.0.113.8"))
    codes = [first.call("getblockcount").get("error", {}).get("code") for _ in range(6)]
    assert codes == [None] * 5 + [-32005]  # a loopback address would be exempt
    assert second.call("getblockcount")["error"]["code"] == -32005
    assert other.call("getblockcount")["result"] == 840000
    for client in (first, second, other):
        client.close()
    wait_for(lambda: not server.connection_count)
    with RawClient(server.port, upgrade=False) as again:  # counted down again for the right address
        again.upgrade(forwarded("203.0.113.7"))


def test_an_address_that_may_not_connect_may_not_behind_a_proxy_either(serve: ServerFactory) -> None:
    server = serve(allow_ips=("203.0.113.0/24",))
    for request in (forwarded("198.51.100.1"), _post("198.51.100.1")):
        with RawClient(server.port, upgrade=False) as raw:
            raw.send(request)
            assert raw.response()[0] == 403
    with RawClient(server.port, upgrade=False) as raw:
        raw.send(_post("203.0.113.9"))
        assert json.loads(raw.response()[2])["result"] == 840000


def _post(client: str) -> bytes:
    body = b'{"method":"getblockcount","id":1}'
    head = f"POST / HTTP/1.1\r\nHost: localhost\r\nX-Dilithion-RPC: 1\r\nX-Forwarded-For: {client}\r\n"
    return head.encode() + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


# The PROXY protocol


@pytest.mark.parametrize("header", [version_1("203.0.113.7", 4711), version_2("203.0.113.7", 4711)], ids=["v1", "v2"])
def test_the_header_names_the_client(header: bytes, serve: ServerFactory) -> None:
    server = serve(proxy_protocol=True)
    with RawClient(server.port, upgrade=False) as raw:
        for byte in header:
            raw.send(bytes([byte]))
        raw.upgrade()
        assert raw.call("getblockcount")["result"] == 840000
        assert server.connections()[0].address == ("203.0.113.7", 4711)


def test_header_and_request_may_come_together(serve: ServerFactory) -> None:
    server = serve(proxy_protocol=True)
    with RawClient(server.port, upgrade=False) as raw:
        raw.upgrade(version_2("2001:db8::1", 1) + REQUEST)
        assert address_of(server) == "2001:db8::1"


def test_a_proxy_s_own_checks_are_answered_or_forgotten(serve: ServerFactory) -> None:
    server = serve(proxy_protocol=True)
    with RawClient(server.port, upgrade=False) as raw:
        raw.send(SIGNATURE + b"\x20\x00\x00\x00" + b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert raw.response()[0] == 200
    for text in (b"", b"PROXY ", SIGNATURE[:5]):
        with RawClient(server.port, upgrade=False) as raw:
            raw.send(text)
    wait_for(lambda: not server.statistics().connections.total)


def test_who_says_nothing_or_something_else_is_dropped(serve: ServerFactory) -> None:
    server = serve(proxy_protocol=True, handshake_timeout=0.3)
    with RawClient(server.port, upgrade=False) as silent, RawClient(server.port, upgrade=False) as other:
        other.send(REQUEST)
        assert other.at_end()
        assert silent.at_end()


def test_who_is_no_proxy_needs_no_header(serve: ServerFactory) -> None:
    server = serve(proxy_protocol=True, trusted_proxies=("192.0.2.1",))
    with RawClient(server.port) as raw:
        assert raw.call("getblockcount")["result"] == 840000


def test_a_client_behind_the_header_may_be_refused(serve: ServerFactory) -> None:
    server = serve(proxy_protocol=True, allow_ips=("203.0.113.0/24",))
    with RawClient(server.port, upgrade=False) as raw:
        raw.send(version_1("198.51.100.1", 1) + REQUEST)
        assert raw.response()[0] == 403


def test_the_header_comes_before_tls(serve: ServerFactory, tmp_path: Path) -> None:
    files = Authority(tmp_path)
    server = serve(proxy_protocol=True, certificate=str(files.certificate), private_key=str(files.key))
    with socket.create_connection(("127.0.0.1", server.port), 10) as sock:
        sock.sendall(version_2("203.0.113.7", 4711))
        with files.context().wrap_socket(sock, server_hostname="localhost") as secure:
            secure.sendall(REQUEST)
            assert secure.recv(4096).startswith(b"HTTP/1.1 101")
            assert server.connections()[0].address == ("203.0.113.7", 4711)


def test_proxy_headers_without_trusted_proxies_are_a_mistake() -> None:
    with pytest.raises(ConfigError, match="needs rpcwebsockettrustedproxies"):
        Config(proxy_protocol=True)
    with pytest.raises(ConfigError, match="rpcwebsockettrustedproxies"):
        Config(trusted_proxies=("nginx",))


# Real proxies, with the configurations in deploy/


class Proxy:
    """nginx or haproxy with a configuration of `deploy/`, its names put in."""

    def __init__(self, folder: Path, name: str, backend: int, tls: Authority | None, below: str = "/") -> None:
        self.port = free_port()
        folder.mkdir(exist_ok=True)
        text = (ROOT / "deploy" / CONFIGURATIONS[name]).read_text()
        pem = folder / "both.pem"
        if tls is not None:
            pem.write_bytes(tls.certificate.read_bytes() + tls.key.read_bytes())
        for old, new in {
            "127.0.0.1:8333": f"127.0.0.1:{backend}",
            "*:443": f"127.0.0.1:{self.port}",
            "listen 443": f"listen 127.0.0.1:{self.port}",
            "/etc/ssl/wallet.example.crt": str(pem),
            "/etc/ssl/wallet.example.key": str(pem),
            "/etc/ssl/wallet.example.pem": str(pem),
            "60s": "1500ms",
        }.items():
            text = text.replace(old, new)
        if below != "/":  # of nginx: below this path is the server's whole site
            text = text.replace("location / {", f"location {below} {{").replace(f":{backend};", f":{backend}/;")
        if tls is None:
            text = text.replace(" ssl;", ";").replace(f" ssl crt {pem}", "")
            text = "".join(line for line in text.splitlines(True) if "ssl_certificate" not in line)
        path = folder / "proxy.conf"
        if name == "nginx":
            paths = "".join(f"{one}_temp_path {one};\n" for one in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
            frame = "daemon off;\nmaster_process off;\npid nginx.pid;\nevents {}\nhttp {\naccess_log off;\n"
            text = f"{frame}{paths}{text}\n}}\n"
            command = ["nginx", "-p", str(folder), "-c", str(path), "-e", "stderr"]
        else:
            command = ["haproxy", "-db", "-f", str(path)]
        path.write_text(text)
        self._log = (folder / "log").open("wb")
        self.process = subprocess.Popen(command, stdout=self._log, stderr=self._log)
        wait_for(self._listens, what=f"{name} with {text}")

    def _listens(self) -> bool:
        assert self.process.poll() is None, Path(self._log.name).read_text()
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", self.port)) == 0

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(10)
        self._log.close()


CONFIGURATIONS = {"nginx": "nginx.conf", "haproxy": "haproxy.cfg", "haproxy-tcp": "haproxy-tcp.cfg"}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


KINDS = {"nginx": "nginx", "haproxy": "haproxy", "haproxy-tcp": "haproxy"}
PACKAGES = {"nginx": "nginx-light", "haproxy": "haproxy", "haproxy-tcp": "haproxy"}


Proxied = tuple[WebSocketServer, str, "ssl.SSLContext | None"]


@pytest.fixture(params=[f"{name}-{kind}" for name in KINDS for kind in ("plain", "tls")])
def proxied(
    request: pytest.FixtureRequest, serve: ServerFactory, authority: Authority, tmp_path: Path
) -> Iterator[Proxied]:
    """A server behind a proxy, and how to connect to it."""
    name, _, kind = request.param.rpartition("-")
    tls = kind == "tls"
    if shutil.which(KINDS[name]) is None:
        pytest.skip(f"needs {KINDS[name]} (apt-get install {PACKAGES[name]})")
    passes = name == "haproxy-tcp"  # TLS is the server's own then
    own = {"certificate": str(authority.certificate), "private_key": str(authority.key)}
    server = serve(
        proxy_protocol=passes,
        allow_hosts=("wallet.example",),
        ping_interval=0.2,
        message_size=2**21,
        **(own if tls and passes else {}),
    )
    proxy = Proxy(tmp_path / name, name, server.port, authority if tls else None)
    context = authority.context() if tls else None
    yield server, f"{'wss' if tls else 'ws'}://localhost:{proxy.port}", context
    proxy.close()


def test_behind_a_proxy_everything_works(proxied: Proxied) -> None:
    server, url, context = proxied
    big = "z" * 2**20
    with _connect(url, context, compression=None, max_size=None) as ws:
        assert ws.ping().wait(10)
        ws.send(json.dumps({"method": "echo", "params": [big], "id": 1}))
        assert json.loads(ws.recv(10))["result"] == big
        assert server.connections()[0].address[0] == "127.0.0.1"
        ws.close(4001, "bye")
    wait_for(lambda: not server.connection_count)
    with Client(url, ssl_context=context) as client:
        blocks = client.subscribe("blocks")
        assert client.call("getblockcount") == 840000
        server.publish("blocks", _block(1))
        event = blocks.get(10)
        assert event is not None
        assert event.data["height"] == 1
    with _connect(url, context, compression=None) as ws:
        threading.Thread(target=server.stop).start()
        with pytest.raises(websockets.exceptions.ConnectionClosed) as closed:
            ws.recv(10)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1001


def _connect(url: str, context: ssl.SSLContext | None, **options: Any) -> Any:
    """Connect, once more if that fails: over TLS this client reads and writes at once, which OpenSSL does not tolerate.

    See cpython issue 151508; the sentence about it in tests/server/test_tls.py has more.
    """
    try:
        return websockets.sync.client.connect(url, ssl=context, **options)
    except (OSError, EOFError, websockets.exceptions.InvalidMessage):
        if context is None:
            raise
        return websockets.sync.client.connect(url, ssl=context, **options)


def _block(height: int) -> dict[str, Any]:
    hash = f"{height:064x}"
    return {"kind": "connected", "height": height, "hash": hash, "previousblockhash": hash, "time": 1, "tx_count": 1}


def test_the_client_s_address_comes_through_and_its_own_word_does_not(proxied: Proxied) -> None:
    server, url, context = proxied
    with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), 10, ("127.0.0.2", 0)) as sock:
        if context is not None:
            sock = context.wrap_socket(sock, server_hostname="localhost")
        with sock:
            sock.sendall(forwarded("203.0.113.66"))
            assert sock.recv(4096).startswith(b"HTTP/1.1 101")
            assert address_of(server) == "127.0.0.2"


def test_pings_keep_an_idle_connection_open(proxied: Proxied, serve: ServerFactory) -> None:
    """The proxies of this test give up after a second and a half; the server pings seven times in that."""
    _, url, context = proxied
    with _connect(url, context, compression=None, ping_interval=None) as ws:
        with pytest.raises(TimeoutError):
            ws.recv(3)
        ws.send('{"method":"getblockcount","id":1}')
        assert json.loads(ws.recv(10))["result"] == 840000


def test_another_host_is_refused_through_a_proxy_too(proxied: Proxied) -> None:
    _, url, context = proxied
    for host, status in (("wallet.example", 101), ("evil.example", 403)):
        with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), 10) as sock:
            if context is not None:
                sock = context.wrap_socket(sock, server_hostname="localhost")
            with sock:
                sock.sendall(REQUEST.replace(b"localhost", host.encode()))
                assert sock.recv(4096).startswith(b"HTTP/1.1 %d" % status)


@needs_chromium
@pytest.mark.skipif(shutil.which("nginx") is None, reason="needs nginx (apt-get install nginx-light)")
def test_the_page_works_below_a_path_of_a_proxy(serve: ServerFactory, tmp_path: Path) -> None:
    server = serve()
    proxy = Proxy(tmp_path / "nginx", "nginx", server.port, None, below="/node/")
    try:
        with Browser() as browser:
            browser.open(f"http://localhost:{proxy.port}/node/")
            wait_for(lambda: browser.run("document.getElementById('state')?.className") == "open", 20, "the connection")
            server.publish("blocks", block(7))
            wait_for(lambda: "7" in browser.run("document.getElementById('height').textContent"), 20, "the block")
            assert browser.problems == []
    finally:
        proxy.close()

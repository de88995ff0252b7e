"""The page in a real browser: its states, the login, live events and history, the method browser, and what it costs."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from dilithion_ws import Config, HttpReply, RpcDialect, RpcError, RpcTable, WebSocketServer
from dilithion_ws.auth.api_tokens import hash_token
from dilithion_ws.gateway import Gateway, GatewayConfig
from dilithion_ws.service.page import page

from ..support import wait_for
from ..support.accounts import write_users
from ..support.browser import Browser
from ..support.fixtures import ServerFactory
from ..support.gateways import ready, transaction
from ..support.http import request
from ..support.programs import NODE_MODULES, needs_axe, needs_chromium
from ..support.standin import StandIn
from ..support.subscriptions import block

SECONDS = 20.0


class PageReader:
    """What the page shows."""

    def __init__(self, browser: Browser) -> None:
        self.browser = browser

    def open(self, port: int) -> None:
        """Open the page of a server."""
        self.browser.open(f"http://localhost:{port}/")
        self.wait("document.getElementById('state') !== null", "the page")

    def text(self, id: str) -> str:
        found: str = self.browser.run(f"document.getElementById('{id}')?.textContent ?? ''")
        return found

    def wait(self, expression: str, what: str) -> None:
        """Wait until an expression is true."""
        wait_for(lambda: self.browser.run(expression), SECONDS, what)

    def wait_text(self, id: str, wanted: str) -> None:
        """Wait until an element has a text."""
        wait_for(lambda: wanted in self.text(id), SECONDS, f"{wanted!r} in {id}")

    def heights(self) -> list[str]:
        """The blocks that are shown, newest first."""
        found: list[str] = self.browser.run("[...document.querySelectorAll('#blocks b')].map(b => b.textContent)")
        return found

    def focused(self) -> str:
        found: str = self.browser.run("document.activeElement.id")
        return found

    def type(self, id: str, text: str) -> None:
        """Type a text into an input."""
        self.browser.run(f"document.getElementById('{id}').focus(); document.getElementById('{id}').select()")
        self.browser.insert(text)


@pytest.fixture(scope="module")
def window() -> Iterator[Browser]:
    with Browser() as browser:
        yield browser


@pytest.fixture
def shown(window: Browser) -> Iterator[PageReader]:
    window.problems.clear()
    yield PageReader(window)
    window.open("about:blank")


@pytest.fixture
def chain() -> Iterator[WebSocketServer]:
    """A server whose host can read its chain of 40 blocks back, and has some of a node's methods."""

    def read(height: int, count: int) -> list[dict[str, Any]]:
        return [{**block(n), "time": int(time.time()) - 10 * (40 - n)} for n in range(height, min(height + count, 41))]

    def find(hash: str) -> dict[str, Any]:
        height = int(hash, 16)
        if height > 40:
            raise RpcError(-5, "Block not found")
        return {**block(height), "size": 1000 * height, "miner": f"D{height}"}

    table = RpcTable()
    table.register("getblockcount", lambda: 40)
    table.register("getblock", find)
    table.register("getmempoolinfo", lambda: {"size": 2, "bytes": 1500})
    table.register("getmininginfo", lambda: {"networkhashps": 1234567.0})
    table.register("getnetworkinfo", lambda: {"subversion": "/LitecoinCore:0.21.2/"})

    @table.method(permission="WRITE_WALLET")
    def send(address: str, amount: Decimal, dry: bool = False) -> dict[str, Any]:
        """Send coins"""
        return {"address": address, "amount": amount, "dry": dry, "parts": list(range(250))}

    server = WebSocketServer(table)
    server.history("blocks", read)
    with server:
        yield server


@needs_chromium
def test_the_chain_s_latest_blocks_are_there_at_once(chain: WebSocketServer, shown: PageReader) -> None:
    shown.open(chain.port)
    wait_for(lambda: len(shown.heights()) == 24, SECONDS, "the history")
    assert shown.heights()[:3] == ["40", "39", "38"]
    shown.wait("document.querySelectorAll('#blocks button')[0].textContent.includes('40.0 kB')", "a size")
    assert shown.browser.run("document.querySelectorAll('#c-intervals rect').length") == 23
    assert "Seconds between blocks: 10 s" in shown.browser.run(
        "document.querySelector('#c-intervals svg').getAttribute('aria-label')"
    )
    assert shown.text("title") == "LitecoinCore:0.21.2"
    shown.wait_text("hashrate", "1.23 MH/s")
    assert shown.text("waiting") == "2 waiting"
    chain.publish("blocks", {**block(41), "time": int(time.time())})
    wait_for(lambda: shown.heights()[0] == "41", SECONDS, "a new block")
    for height in (41, 40):
        chain.publish("blocks", block(height, "disconnected"))
    wait_for(lambda: shown.heights()[0] == "39", SECONDS, "a reorganisation")
    assert shown.browser.problems == []


@needs_chromium
def test_charts_have_ranges_and_single_values_by_pointer_and_keys(chain: WebSocketServer, shown: PageReader) -> None:
    def width_of_bars() -> float:
        width: float = shown.browser.run(
            "(bars => bars.at(-1).getAttribute('x') - bars[0].getAttribute('x'))"
            "([...document.querySelectorAll('#c-intervals rect')])"
        )
        return width

    def value() -> str:
        found: str = shown.browser.run("document.querySelector('#c-intervals output').textContent")
        return found

    def seconds(text: str) -> int:
        hours, minutes, rest = text.split(":")[:3]
        return 3600 * int(hours) + 60 * int(minutes) + int(rest)

    def press(key: str) -> int:
        shown.browser.press(key)
        assert value().endswith(": 10 s")
        return seconds(value())

    chart = "document.querySelector('#c-intervals svg')"
    shown.open(chain.port)
    shown.wait("document.querySelectorAll('#c-intervals rect').length === 23", "the bars of the history")
    assert value() == ""
    in_ten_minutes = width_of_bars()
    shown.browser.run("document.querySelector('input[name=range][value=\"3600\"]').click()")
    assert width_of_bars() == pytest.approx(in_ten_minutes / 6, rel=0.05)
    shown.browser.run(f"{chart}.focus()")
    last = press("ArrowLeft")
    assert (last - press("ArrowLeft")) % 86400 == 10
    assert press("ArrowRight") == press("ArrowRight") == last  # there is none to the right of the last
    shown.browser.run(f"{chart}.blur()")
    assert value() == ""
    shown.browser.point_at(chart, 0.99)  # 36 s before now
    assert value().endswith(": 10 s")
    assert 0 < (last - seconds(value())) % 86400 < 60
    shown.browser.point_at("document.querySelector('h1')", 0.5)
    assert value() == ""
    assert shown.browser.problems == []


@needs_chromium
def test_a_block_s_details_can_be_followed_to_its_parent_and_copied(chain: WebSocketServer, shown: PageReader) -> None:
    shown.open(chain.port)
    wait_for(lambda: len(shown.heights()) == 24, SECONDS, "the history")
    shown.browser.run("document.querySelector('#blocks button').click()")
    shown.wait_text("details", "Block 40")
    shown.browser.run("document.querySelector('#details .hash').click()")
    shown.wait_text("details", "Block 39")
    shown.browser.run("navigator.clipboard.writeText = async text => { window.copied = text; }")
    shown.browser.run("document.querySelector('#details p button').click()")
    shown.wait(f"window.copied === '{39:064x}'", "the copy")
    shown.browser.run("document.querySelector('#details .quiet').click()")
    assert shown.browser.run("document.getElementById('details').hidden")


@needs_chromium
def test_a_log_that_begins_anew_costs_no_block_if_the_chain_can_be_read(
    chain: WebSocketServer, shown: PageReader
) -> None:
    shown.open(chain.port)
    wait_for(lambda: len(shown.heights()) == 24, SECONDS, "the history")
    chain.events.start_new_epoch("blocks")
    chain.publish("blocks", {**block(41), "time": int(time.time())})
    wait_for(lambda: shown.heights()[0] == "41", SECONDS, "the next block")
    assert len(shown.heights()) == 25
    assert shown.text("banners") == ""


@needs_chromium
def test_a_secret_is_not_shown(chain: WebSocketServer, shown: PageReader) -> None:
    chain.rpc.register("walletpassphrase", lambda passphrase: None)
    shown.open(chain.port)
    shown.wait_text("method", "getblockcount")
    shown.type("search", "walletpassphrase")
    shown.wait("document.querySelectorAll('#methods button').length === 1", "the search")
    shown.browser.press("Enter")
    shown.wait("document.activeElement.type === 'password'", "the focus on a field for secrets")
    shown.browser.insert("correct horse")
    shown.wait_text("code", "•••")
    shown.browser.run("document.getElementById('call').click()")
    shown.wait_text("results", "walletpassphrase")
    assert "correct horse" not in shown.browser.run("document.body.innerText + document.body.innerHTML")


@needs_chromium
def test_the_method_browser(chain: WebSocketServer, shown: PageReader) -> None:
    shown.open(chain.port)
    shown.wait_text("method", "getblockcount")
    shown.type("search", "SEND COINS")
    shown.wait("document.querySelectorAll('#methods button').length === 1", "the search")
    shown.browser.press("Enter")
    shown.wait_text("method", "send")
    assert "needs the permission WRITE_WALLET" in shown.text("permission")
    shown.wait("document.activeElement.tagName === 'INPUT'", "the focus on the first field")
    shown.browser.run("document.getElementById('call').click()")
    shown.wait_text("problem", "address: a value is required")
    shown.browser.run("document.querySelectorAll('#fields input, #fields textarea')[0].focus()")
    shown.browser.insert("D1")
    shown.browser.press("Tab")
    shown.browser.insert("0.10000000")
    shown.wait_text("code", '"params": ["D1", 0.10000000]')
    shown.browser.run("document.querySelectorAll('#languages button')[2].click()")
    shown.wait_text("code", 'client.request("send", ["D1", 0.10000000])')
    shown.browser.run("document.getElementById('call').click()")
    shown.wait_text("results", "amount: 0.1")
    assert "150 more" in shown.text("results"), "a long array comes in parts"
    # What is not listed can be called, and fails with its reason; then the earlier call comes back by the arrow key.
    shown.type("search", "nosuchmethod")
    shown.browser.press("Enter")
    shown.browser.run("document.getElementById('call').click()")
    shown.wait_text("results", "Method not found")
    shown.browser.run("document.querySelector('#fields textarea').focus()")
    for _ in range(2):
        shown.browser.press("ArrowUp")
    shown.wait_text("method", "send")
    assert shown.browser.run("document.querySelector('#fields input').value") == "D1"
    assert shown.browser.problems == []


@needs_chromium
def test_the_server_s_own_numbers_are_there_for_those_who_may_see_them(rpc: RpcTable, shown: PageReader) -> None:
    config = Config(user="admin", password="adminadmin")
    with WebSocketServer(rpc, config) as server:
        shown.open(server.port)
        log_in(shown, "admin", "adminadmin")
        shown.wait("!document.getElementById('server').hidden", "the server's numbers")
        shown.wait_text("numbers", "Subscriptions4")
        assert "dilithion_ws" in shown.text("version")


def log_in(shown: PageReader, user: str, password: str) -> None:
    shown.wait("document.getElementById('login').open", "the dialog")
    wait_for(lambda: shown.focused() == "user", SECONDS, "the focus")
    shown.type("user", user)
    shown.browser.press("Tab")
    shown.browser.insert(password)
    shown.browser.press("Enter")


@needs_chromium
def test_a_token_logs_in(start: ServerFactory, shown: PageReader, tmp_path: Path) -> None:
    secret = "dilithion_" + "t" * 40
    tokens = {"bot": {"token_hash": hash_token(secret).hex(), "role": "readonly"}}
    users = tmp_path / "users.json"
    users.write_text(json.dumps({"version": 1, "users": {}, "tokens": tokens}))
    users.chmod(0o600)
    with start(users_file=str(users)) as server:
        shown.open(server.port)
        shown.wait("document.getElementById('login').open", "the dialog")
        shown.browser.run("document.getElementById('by-token').click()")
        shown.type("token", secret)
        shown.browser.press("Enter")
        shown.wait("!document.getElementById('login').open", "the end of the dialog")
        wait_for(lambda: [one.user for one in server.connections()] == ["token:bot"], SECONDS, "the login")


@needs_chromium
def test_the_dialog_says_why_a_login_failed_and_takes_no_focus(start: ServerFactory, shown: PageReader) -> None:
    with start(user="alice", password="alicealice", authentication_timeout=0.5) as server:
        shown.open(server.port)
        shown.wait("document.getElementById('login').open", "the dialog")
        # Nothing is tried while the user types, so nothing can time out and begin again.
        wait_for(lambda: not server.statistics().connections.by_state.get("open"), SECONDS, "the end of the connection")
        assert shown.text("state") == "not connected"
        shown.type("user", "alice")
        shown.browser.press("Tab")
        shown.browser.insert("wrong")
        assert shown.focused() == "password"
        shown.browser.press("Enter")
        shown.wait_text("reason", "Wrong user or password")
        assert shown.focused() == "password"
        assert shown.browser.run("document.getElementById('user').value") == "alice"
        for guess in range(8):
            shown.type("password", f"wrong{guess}")
            shown.browser.press("Enter")
            wait_for(lambda: shown.text("reason") != "Logging in …", SECONDS, "an answer")
        shown.wait_text("wait", "The server accepts none for")
        shown.browser.run("document.getElementById('cancel').click()")
        assert not shown.browser.run("document.getElementById('log-in').hidden"), "there is a way back"
        assert shown.browser.problems == []


@needs_chromium
def test_the_page_from_log_in_over_a_restart_to_log_out(rpc: RpcTable, tmp_path: Path, shown: PageReader) -> None:
    store = f"sqlite:{tmp_path / 'events.db'}"
    config: dict[str, Any] = {"user": "alice", "password": "alicealice", "event_store": store}
    server = WebSocketServer(rpc, Config(**config)).start()
    try:
        shown.open(server.port)
        log_in(shown, "alice", "alicealice")
        shown.wait_text("who", "alice (admin)")
        wait_for(lambda: len(server.events.cursors.all()) == 4, SECONDS, "all four subscriptions")
        for height in (1, 2, 3):
            server.publish("blocks", block(height))
        wait_for(lambda: shown.heights() == ["3", "2", "1"], SECONDS, "the blocks")
        server.publish("mining", {"kind": "hashrate", "hashrate": 1234.5, "threads": 2})
        server.publish("peers", {"kind": "connected", "id": 7, "addr": "203.0.113.7:1", "inbound": True, "peers": 3})
        shown.wait_text("hashrate", "1.23 kH/s")
        shown.wait_text("peercount", "3 connected")
        # Restarted under it: what came meanwhile is there, and nothing twice.
        port = server.port
        server.stop(2.0)
        shown.wait_text("banners", "The connection is lost")
        assert shown.browser.run("document.body.classList.contains('stale')"), "the numbers are grey"
        server = WebSocketServer(rpc, Config(port=port, **config)).start()
        for height in (4, 5):
            server.publish("blocks", block(height))
        wait_for(lambda: shown.heights()[:1] == ["5"], 30, "the blocks since then")
        assert shown.heights() == ["5", "4", "3", "2", "1"]
        shown.wait("document.getElementById('banners').textContent === ''", "the end of the banner")
        assert shown.text("who") == "alice (admin)", "logged in again by itself"
        gaps = "document.querySelectorAll('#c-peers .line').length"
        assert shown.browser.run(gaps) <= 1, "no line is drawn through the gap"
        server.publish("peers", {"kind": "connected", "id": 8, "addr": "203.0.113.8:1", "inbound": True, "peers": 4})
        shown.wait(f"{gaps} === 2", "the line after the gap")
        shown.browser.run("document.getElementById('log-out').click()")
        shown.wait("document.getElementById('login')?.open && !document.getElementById('who').textContent", "the end")
        assert shown.browser.problems == []
    finally:
        server.stop(2.0)


@needs_chromium
def test_a_user_sees_what_the_role_allows(start: ServerFactory, tmp_path: Path, shown: PageReader) -> None:
    path = tmp_path / "users.json"
    write_users(path, watcher="metrics")
    shown.open(start(users_file=str(path)).port)
    log_in(shown, "watcher", "watcherwatcher")
    shown.wait_text("who", "watcher (metrics)")
    shown.wait("!document.getElementById('server').hidden", "the server's numbers")
    shown.wait("document.querySelectorAll('section.denied').length === 3", "the topics that the user may not read")
    assert shown.browser.problems == []


@needs_chromium
def test_a_node_that_is_syncing_has_a_banner_until_it_is_up(start: ServerFactory, shown: PageReader) -> None:
    server = start()
    server.topic("node", permission="READ_BLOCKCHAIN")
    shown.open(server.port)
    wait_for(lambda: len(server.events.cursors.all()) == 5, SECONDS, "all five subscriptions")
    server.publish("node", {"kind": "syncing", "blocks": 1000, "headers": 5000})
    shown.wait_text("banners", "is syncing: block 1,000 of 5,000")
    server.publish("node", {"kind": "up", "blocks": 5000})
    shown.wait("document.getElementById('banners').textContent === ''", "the end of the banner")


@needs_chromium
def test_the_state_of_the_node_is_read_once(start: ServerFactory, shown: PageReader) -> None:
    table = RpcTable()
    table.register("getnodestate", lambda: {"kind": "up", "blocks": 5})
    server = start(table)
    shown.open(server.port)
    shown.wait("performance.now() > 4000", "some seconds of the page's clock")
    assert server.statistics().methods["getnodestate"].succeeded == 1


@needs_chromium
def test_missed_events_are_marked_and_the_banner_goes_away(start: ServerFactory, shown: PageReader) -> None:
    server = start()
    shown.open(server.port)
    wait_for(lambda: len(server.events.cursors.all()) == 4, SECONDS, "all four subscriptions")
    server.publish("blocks", block(6))
    wait_for(lambda: shown.heights() == ["6"], SECONDS, "a block")
    for topic in ("blocks", "mempool", "peers"):
        server.events.start_new_epoch(topic)
    shown.wait_text("banners", "Events of blocks were missed (epoch)")
    for id in ("l-peers", "mempool"):
        shown.wait_text(id, "events are missing here")
    # Blocks of which the page does not know whether they are still there are not shown.
    wait_for(lambda: shown.heights() == [], SECONDS, "the end of the blocks")
    server.publish("blocks", block(9))
    wait_for(lambda: shown.heights() == ["9"], SECONDS, "the next block")
    shown.wait("document.getElementById('banners').textContent === ''", "the end of the banner")
    server.publish("peers", {"kind": "connected", "id": 7, "addr": "203.0.113.7:1", "inbound": True, "peers": 3})
    shown.wait_text("l-peers", "203.0.113.7:1")


@needs_chromium
def test_the_page_shows_that_the_event_store_cannot_be_used_until_it_can(
    start: ServerFactory, tmp_path: Path, shown: PageReader
) -> None:
    folder = tmp_path / "gone"
    server = start(event_store=f"sqlite:{folder / 'events.db'}", store_retry=0.5)
    shown.open(server.port)
    shown.wait_text("banners", "can't be used: away")
    folder.mkdir()
    shown.wait("document.getElementById('banners').textContent === ''", "its end")


@needs_chromium
def test_the_page_of_a_gateway_shows_that_its_node_is_down_and_what_a_block_has_mined(shown: PageReader) -> None:
    node = StandIn()
    config = GatewayConfig(upstream=node.url, poll_interval=0.1)
    try:
        with Gateway(config, Config(insecure=True)) as gateway:
            ready(gateway)
            shown.open(gateway.server.port)
            wait_for(lambda: len(gateway.server.events.cursors.all()) == 5, SECONDS, "the subscriptions, also to node")
            assert shown.text("banners") == ""
            node.mempool["aa"] = transaction()
            shown.wait_text("mempool", "arrived")
            block_hash = node.mine()["hash"]
            shown.wait_text("mempool", "1 in block")
            shown.wait(f"document.querySelector('#blocks button')?.dataset.block === '{block_hash}'", "the block")
            assert "NaN" not in shown.browser.run("document.documentElement.innerHTML")
            assert "undefined" not in shown.browser.run("document.querySelector('main').innerText")
            node.stop()
            shown.wait_text("banners", "is down: the node can't be reached")
            assert shown.browser.run("document.body.classList.contains('node-down')"), "the numbers are grey"
            assert shown.browser.problems == []
    finally:
        node.stop()


@needs_chromium
@needs_axe
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (400, True)])
def test_the_page_is_accessible_and_fits(chain: WebSocketServer, shown: PageReader, width: int, dark: bool) -> None:
    shown.browser.resize(width, 900, dark=dark)
    shown.open(chain.port)
    wait_for(lambda: len(shown.heights()) == 24, SECONDS, "the history")
    shown.browser.run("document.getElementById('call').click()")
    shown.browser.run("document.querySelector('#blocks button').click()")
    shown.wait_text("details", "Block 40")
    shown.wait("document.querySelectorAll('#results .value').length === 1", "a result")
    assert shown.browser.run("document.documentElement.scrollWidth <= window.innerWidth"), "no sideways scrolling"
    assert axe(shown) == []
    shown.browser.run("document.getElementById('login').showModal()")
    assert axe(shown) == []


def axe(shown: PageReader) -> list[str]:
    """Return what axe-core finds."""
    shown.browser.run((NODE_MODULES / "axe-core" / "axe.min.js").read_text() + "; 1")
    rules = "{runOnly: ['wcag2a', 'wcag2aa', 'wcag21aa', 'wcag22aa', 'best-practice']}"
    found: list[str] = shown.browser.run(
        f"axe.run(document, {rules}).then(r => r.violations.map(v => v.id + ' ' + v.nodes.map(n => n.html).join(' ')))"
    )
    return found


@needs_chromium
def test_first_content_comes_at_once_and_a_day_of_events_takes_no_memory(
    start: ServerFactory, shown: PageReader
) -> None:
    server = start(history_entries=1000)
    paints = []
    for _ in range(3):
        shown.open(server.port)
        shown.wait("performance.getEntriesByName('first-contentful-paint').length === 1", "the first content")
        paints.append(shown.browser.run("performance.getEntriesByName('first-contentful-paint')[0].startTime"))
    assert min(paints) < 300, paints
    wait_for(lambda: len(server.events.cursors.all()) == 4, SECONDS, "all four subscriptions")
    used = []
    for part in range(3):
        # A block every four minutes and 20 transactions between two of them make 360 blocks a day.
        for height in range(120 * part + 1, 120 * part + 121):
            txids = [f"{height * 100 + number:064x}" for number in range(20)]
            for txid in txids:
                server.publish("mempool", {"kind": "added", "txid": txid, "size": 250, "fee": 1, "sequence": 1})
            mined = {"kind": "mined", "height": height, "hash": f"{height:064x}", "txids": txids, "sequence": 1}
            server.publish("mempool", mined)
            peer = {"kind": "connected", "id": 7, "addr": "203.0.113.7:1", "inbound": True, "peers": height}
            server.publish("peers", peer)
            server.publish("blocks", block(height))
            wait_for(lambda: all(cursor.lag == 0 for cursor in server.events.cursors.all()), SECONDS)
        wait_for(lambda part=part: shown.heights()[:1] == [str(120 * part + 120)], 30, "the last block")
        used.append(min(shown.browser.used_memory() for _ in range(3)))
    assert shown.browser.run("document.querySelectorAll('#blocks li').length") == 60
    assert shown.browser.run("document.querySelectorAll('#mempool li').length") == 50
    # The browser compiles and collects when it likes. Events that were kept would double this.
    assert used[2] - used[0] < 0.4 * used[0], f"bytes in use after 120, 240 and 360 blocks: {used}"
    assert shown.browser.problems == []


def test_the_page_may_load_and_run_nothing_else() -> None:
    response = page("localhost:8333")
    policy = dict(response.headers)[b"Content-Security-Policy"].decode()
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "connect-src 'self' ws://localhost:8333 wss://localhost:8333" in policy
    body = response.body.decode()
    assert "http://" not in body.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in body


def test_the_page_can_be_turned_off(start: ServerFactory) -> None:
    assert request(start(), "GET", "/")[0] == 200
    without = start(page=0)
    assert [request(without, "GET", path)[0] for path in ("/", "/client.js")] == [404, 404]


@needs_chromium
def test_a_page_of_another_origin_cannot_call_a_node_of_core_s_family(window: Browser) -> None:
    """Its clients send no header that would keep pages out, so the browser's own words must do."""
    browser = window
    called: list[str] = []
    rpc = RpcTable()
    rpc.dialect = RpcDialect.CORE
    rpc.register("stop", lambda: called.append("stop"), permission="ADMIN_SERVER")
    policy = {"Content-Security-Policy": "default-src * 'unsafe-inline'"}
    other = WebSocketServer(RpcTable())
    other.routes.add("/foreign", lambda call: HttpReply(b"<p>", "text/html", headers=policy), is_public=True)
    with WebSocketServer(rpc) as target, other:
        browser.open(f"http://localhost:{other.port}/foreign")
        for address in (f"http://localhost:{target.port}/", f"http://127.0.0.1:{target.port}/"):
            for kind in ("text/plain", "application/x-www-form-urlencoded"):
                browser.run(
                    f"""fetch('{address}', {{method: 'POST', mode: 'no-cors', headers: {{'Content-Type': '{kind}'}},
                    body: '{{"method":"stop","id":1}}'}}).then(r => window.done = r.type, e => window.done = 'refused')"""
                )
                wait_for(lambda: browser.run("window.done ?? ''"), 20)
                browser.run("window.done = ''")
        assert target.statistics().connections.accepted >= 1
        assert called == []

"""The page in a real browser: log in, live events, the console, and a server that is restarted under it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dilithion_ws import Config, HttpReply, RpcDialect, RpcTable, WebSocketServer
from dilithion_ws.gateway import Gateway, GatewayConfig
from dilithion_ws.service.page import page

from ..support import wait_for
from ..support.browser import Browser
from ..support.fixtures import ServerFactory
from ..support.gateways import ready, transaction
from ..support.programs import needs_chromium
from ..support.standin import StandIn
from ..support.subscriptions import block


def text(browser: Browser, id: str) -> str:
    found: str = browser.run(f"document.getElementById('{id}')?.textContent ?? ''")
    return found


def shown(browser: Browser, list: str) -> list[int]:
    """The numbers in a list, newest first."""
    return [
        int(number) for number in browser.run(f"[...document.querySelectorAll('#{list} b')].map(b => b.textContent)")
    ]


@needs_chromium
def test_the_page_from_log_in_to_a_restart_under_it(rpc: RpcTable, tmp_path: Path) -> None:
    store = f"sqlite:{tmp_path / 'events.db'}"
    config: dict[str, Any] = {"user": "alice", "password": "alicealice", "event_store": store}
    server = WebSocketServer(rpc, Config(**config)).start()
    try:
        with Browser() as browser:
            browser.open(f"http://localhost:{server.port}/")
            wait_for(lambda: browser.run("document.getElementById('login')?.open"), 20, "the dialog")
            # By keyboard alone: the first field has the focus.
            for password, outcome in (("wrong", "Wrong user or password"), ("alicealice", "")):
                browser.run("document.getElementById('user').value = ''")
                browser.insert("alice")
                browser.press("Tab")
                browser.insert(password)
                browser.press("Enter")
                if outcome:
                    wait_for(lambda outcome=outcome: text(browser, "wrong") == outcome, 20)
            wait_for(lambda: not browser.run("document.getElementById('login')?.open"), 20)
            assert text(browser, "who") == "alice (admin)"
            wait_for(lambda: len(server.events.cursors.all()) == 4, 20, "all four subscriptions")
            for height in (1, 2, 3):
                server.publish("blocks", block(height))
            wait_for(lambda: shown(browser, "blocks") == [3, 2, 1], 20)
            assert text(browser, "height") == "height 3"
            server.publish("mining", {"kind": "hashrate", "hashrate": 1234.5, "threads": 2})
            server.publish(
                "peers", {"kind": "connected", "id": 7, "addr": "203.0.113.7:1", "inbound": True, "peers": 3}
            )
            wait_for(lambda: text(browser, "hashrate") == "1234.5 H/s", 20)
            wait_for(lambda: text(browser, "peercount") == "3 connected", 20)
            assert browser.run("document.querySelectorAll('#c-blocks path').length") == 2, "a small chart"
            # The console, which knows the methods.
            assert browser.run(
                "[...document.querySelectorAll('#methods option')].some(o => o.value === 'getblockcount')"
            )
            browser.run("document.getElementById('method').focus()")
            browser.insert("add")
            browser.press("Tab")
            browser.insert("[40, 2]")
            browser.press("Enter")
            wait_for(lambda: "42" in text(browser, "log"), 20)
            assert "Add two numbers (a, [b])" in text(browser, "summary")
            # Restarted under it: what came meanwhile is there, and nothing twice.
            port = server.port
            server.stop(2.0)
            wait_for(lambda: text(browser, "state").startswith("lost"), 20)
            server = WebSocketServer(rpc, Config(port=port, **config)).start()
            for height in (4, 5):
                server.publish("blocks", block(height))
            wait_for(lambda: shown(browser, "blocks")[:1] == [5], 30)
            assert shown(browser, "blocks") == [5, 4, 3, 2, 1]
            assert text(browser, "note") == ""
            assert text(browser, "who") == "alice (admin)", "logged in again by itself"
            assert browser.problems == []
            for name, width, dark in (("wide", 1280, False), ("narrow", 420, True)):
                browser.screenshot(tmp_path / f"{name}.png", width=width, height=900, dark=dark)
                assert browser.run("document.documentElement.scrollWidth <= window.innerWidth"), (
                    f"no sideways scrolling, {name}"
                )
    finally:
        server.stop(2.0)


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
    from ..support.http import request

    assert request(start(), "GET", "/")[0] == 200
    assert request(start(page=0), "GET", "/")[0] == 404


@needs_chromium
def test_the_page_shows_that_the_event_store_cannot_be_used_until_it_can(start: ServerFactory, tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    server = start(event_store=f"sqlite:{folder / 'events.db'}", store_retry=0.5)
    with Browser() as browser:
        browser.open(f"http://localhost:{server.port}/")
        wait_for(lambda: "can't be used: away" in text(browser, "storestate"), 20, "the banner")
        assert browser.run("document.getElementById('storestate').hidden") is False
        folder.mkdir()
        wait_for(lambda: browser.run("document.getElementById('storestate').hidden"), 20, "its end")


@needs_chromium
def test_the_page_of_a_gateway_shows_that_its_node_is_down_and_what_a_block_has_mined() -> None:
    node = StandIn()
    config = GatewayConfig(upstream=node.url, poll_interval=0.1)
    try:
        with Gateway(config, Config(insecure=True)) as gateway, Browser() as browser:
            ready(gateway)
            browser.open(f"http://localhost:{gateway.server.port}/")
            wait_for(
                lambda: len(gateway.server.events.cursors.all()) == 5, 20, "the subscriptions, that to node included"
            )
            assert browser.run("document.getElementById('nodestate').hidden")
            node.mempool["aa"] = transaction()
            wait_for(lambda: "aa" in text(browser, "mempool"), 20)
            block_hash = node.mine()["hash"]
            wait_for(lambda: "1 mined" in text(browser, "mempool"), 20)
            assert block_hash in text(browser, "mempool")
            node.stop()
            wait_for(lambda: "is down: the node can't be reached" in text(browser, "nodestate"), 20)
            assert not browser.run("document.getElementById('nodestate').hidden")
            assert browser.problems == []
    finally:
        node.stop()


@needs_chromium
def test_a_page_of_another_origin_cannot_call_a_node_of_core_s_family() -> None:
    """Its clients send no header that would keep pages out, so the browser's own words must do."""
    called: list[str] = []
    rpc = RpcTable()
    rpc.dialect = RpcDialect.CORE
    rpc.register("stop", lambda: called.append("stop"), permission="ADMIN_SERVER")
    policy = {"Content-Security-Policy": "default-src * 'unsafe-inline'"}
    other = WebSocketServer(RpcTable())
    other.routes.add("/foreign", lambda call: HttpReply(b"<p>", "text/html", headers=policy), is_public=True)
    with WebSocketServer(rpc) as target, other, Browser() as browser:
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

"""Faults of the node behind a gateway: a real node of the Bitcoin Core family, on a chain of its own."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

from .processes import SwarmProcess, free_port, swarm, wait_for
from .scenario import NotHereError, Terms, scenario

_LONG_CHAIN = "-vbparams=mweb:9999999998:9999999999"
"""Without it the node makes no block beyond height 431 of its test chain, as one with MWEB would have to be signalled."""
_SUBSCRIBERS = 10


@contextlib.contextmanager
def _beside(terms: Terms, *options: str) -> Iterator[tuple[Any, int, SwarmProcess]]:
    """Run a node, a gateway and subscribers to `blocks`. Yield the node, the gateway's port, and the subscribers."""
    if shutil.which("litecoind") is None:
        raise NotHereError("needs litecoind")
    from tests.support.litecoin import Litecoin

    folder = terms.folder / "node"
    folder.mkdir(exist_ok=True)
    chain = Litecoin(folder)
    chain.call("createwallet", "w")
    _mine(chain, 20)
    chain.stop()  # so that a kill loses no block of these
    chain.start(_LONG_CHAIN, *options)
    _load(chain)
    port = free_port()
    login = terms.folder / "login"
    command = [sys.executable, "-m", "dilithion_ws", "gateway", "--port", str(port), "--cookie-file", str(login)]
    gateway = subprocess.Popen(
        [*command, "--upstream", chain.url, "--upstream-cookie", str(chain.cookie)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(login.exists, 30, "the gateway")
        with swarm(port, _SUBSCRIBERS, topic="blocks", login=login.read_text()) as bees:
            wait_for(lambda: bees.report["subscribed"] == _SUBSCRIBERS, 60, "the subscriptions")
            yield chain, port, bees
    finally:
        gateway.kill()
        gateway.wait(10)
        with contextlib.suppress(Exception):
            chain.resume()
            chain.kill()


def _mine(chain: Any, count: int) -> None:
    chain.call("generatetoaddress", count, chain.call("getnewaddress"))


def _agree(chain: Any, bees: SwarmProcess, first: int) -> dict[str, Any]:
    """Wait until the events have led to the node's chain, from a height on. Return the report."""

    def is_there() -> bool:
        view: dict[int, str] = {}
        for event in bees.ask("events"):
            if event["kind"] == "connected":
                view[event["height"]] = event["hash"]
            else:
                view.pop(event["height"], None)
        tip = chain.call("getblockcount")
        return bool(view) and view == {
            height: chain.call("getblockhash", height) for height in range(min(view), tip + 1) if min(view) <= first
        }

    wait_for(is_there, 120, "the node's chain in the events")
    report = bees.report
    assert not any(name.startswith("told: ") for name in report), report
    return report


@scenario("node-killed")
def node_killed(terms: Terms) -> str:
    """The node is killed and comes back: blocks go on, and lead to the node's own chain"""
    with _beside(terms) as (chain, _, bees):
        first = chain.call("getblockcount") + 1
        times = int(terms.choose(2, 10))
        for _ in range(times):
            _mine(chain, 5)
            _agree(chain, bees, first)
            chain.kill()
            chain.start()
            _load(chain)
            _mine(chain, 3)
        report = _agree(chain, bees, first)
        return f"{times} kills, {report['different events']} events"


@scenario("reorganisation")
def reorganisation(terms: Terms) -> str:
    """The chain is reorganised, 500 blocks deep: each block is disconnected and the new ones are connected, in order"""
    depth = int(terms.choose(30, 500))
    with _beside(terms) as (chain, _, bees):
        first = chain.call("getblockcount") + 1
        _mine(chain, depth + 5)
        fork = chain.call("getblockhash", chain.call("getblockcount") - depth + 1)
        wait_for(lambda: bees.report["lowest"] >= depth, 60, "the first branch")
        chain.call("invalidateblock", fork)
        _mine(chain, depth + 1)
        report = _agree(chain, bees, first)
        return f"{depth} blocks, {report['different events']} events"


@scenario("node-hangs")
def node_hangs(terms: Terms) -> str:
    """The node accepts connections and answers nothing for a while: blocks go on afterwards"""
    with _beside(terms) as (chain, _, bees):
        first = chain.call("getblockcount") + 1
        outcomes = []
        for seconds in (3,) if terms.short else (5, 60, 70):
            _mine(chain, 3)
            chain.hang()
            time.sleep(seconds)
            chain.resume()
            _mine(chain, 3)
            report = _agree(chain, bees, first)
            outcomes.append(f"{seconds} s")
        return f"{', '.join(outcomes)}: {report['different events']} events"


@scenario("work-queue")
def work_queue(terms: Terms) -> str:
    """The node's work queue is full of other programs' calls: no block is missing"""
    with _beside(terms, "-rpcworkqueue=2", "-rpcthreads=1") as (chain, _, bees):
        first, address = chain.call("getblockcount") + 1, chain.call("getnewaddress")
        stopping = threading.Event()
        body = json.dumps({"method": "waitfornewblock", "params": [200], "id": 1}).encode()

        def flood() -> None:
            while not stopping.is_set():
                with contextlib.suppress(Exception):
                    chain.post("/", body)

        threads = [threading.Thread(target=flood) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(int(terms.choose(3, 20))):
                _insist(chain, address)
        finally:
            stopping.set()
            for thread in threads:
                thread.join(40)
        report = _agree(chain, bees, first)
        return f"{report['different events']} events"


def _insist(chain: Any, address: str) -> None:
    """Mine a block by one call, however often the node refuses it."""

    def mined() -> bool:
        with contextlib.suppress(RuntimeError):
            chain.call("generatetoaddress", 1, address)
            return True
        return False

    wait_for(mined, 120, "a place for a block in the node's queue")


def _load(chain: Any) -> None:
    with contextlib.suppress(RuntimeError):
        chain.call("loadwallet", "w")

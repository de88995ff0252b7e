"""The gateway in front of a real node: calls, events, crashes and reorganisations; every client's view is the node's."""

from __future__ import annotations

import hmac
import json
import os
import random
import subprocess
import threading
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from dilithion_ws import RpcError
from dilithion_ws.client import Client
from dilithion_ws.gateway.dialects.bitcoin_core import CORE

from ..support import RawClient, free_port, wait_for
from ..support.gateways import GatewayFactory, put, ready, take
from ..support.litecoin import Litecoin, needs_litecoind
from ..support.programs import NODE_MODULES, needs_node

pytestmark = [needs_litecoind, pytest.mark.timeout(150)]

WATCHERS = 50
HANG_SECONDS = 60


# Calls


def test_wallet_and_chain_methods(litecoin: Litecoin, gateways: GatewayFactory) -> None:
    gateway = put(litecoin, gateways)
    assert gateway.node.dialect is CORE
    with Client(gateway.server.url) as client:
        assert client.call("createwallet", "w")["name"] == "w"
        address = client.call("getnewaddress")
        hashes = client.call("generatetoaddress", 101, address)
        assert client.call("getblockcount") == 101
        assert client.call("getbestblockhash") == hashes[-1] == litecoin.call("getbestblockhash")
        assert client.call("getblock", hashes[0])["height"] == 1
        assert client.call("getblock", blockhash=hashes[0], verbosity=0) == litecoin.call("getblock", hashes[0], 0)
        assert client.call("getbalance") == 50
        mempool, paid = client.subscribe("mempool"), client.subscribe("mempool", filter={"address": [address]})
        txid = client.call("sendtoaddress", address, 0.29)
        assert client.call("gettransaction", txid)["details"][0]["amount"] == Decimal("-0.29")
        event = mempool.get(10)
        assert event is not None
        assert (event.data["kind"], event.data["txid"]) == ("added", txid)
        assert address in event.data["addresses"]
        assert paid.get(10).data["txid"] == txid
        entry = litecoin.call("getmempoolentry", txid)
        assert (event.data["size"], float(event.data["fee"])) == (entry["vsize"], entry["fees"]["base"])
        client.call("generatetoaddress", 1, address)
        event = mempool.get(10)
        assert event is not None
        assert (event.data["kind"], event.data["txids"]) == ("mined", [txid])
        assert address in event.data["addresses"]
        results = client.batch(
            [("getblockhash", [1]), ("getblockhash", [10_000]), ("nosuch", []), ("getblockcount", [])]
        )
        assert results[0] == hashes[0]
        assert [results[1].code, results[2].code] == [-8, -32601]
        assert results[3] == 102
        with pytest.raises(RpcError) as caught:
            client.call("getblock", "00")
        assert caught.value.code == -8
    names = {method["name"] for method in _discovered(gateway)}
    assert {"getblockheader", "sendtoaddress", "waitfornewblock"} <= names
    assert "getdfmpinfo" not in names  # of the other dialect


def _discovered(gateway: Any) -> list[dict[str, Any]]:
    with Client(gateway.server.url) as client:
        found: list[dict[str, Any]] = client.call("rpc.discover")["methods"]
        return found


def test_results_and_errors_are_the_node_s_to_the_digit(litecoin: Litecoin, gateways: GatewayFactory) -> None:
    gateway = put(litecoin, gateways)
    litecoin.call("createwallet", "w")
    litecoin.call("generatetoaddress", 101, litecoin.call("getnewaddress"))
    with RawClient(gateway.server.port) as raw:
        raw.text('{"method":"getbalance","id":1.50}')
        assert raw.frame()[1] == b'{"jsonrpc":"2.0","result":50.00000000,"id":1.50}'
        raw.text('{"method":"getblockhash","params":[500],"id":"x"}')
        error = b'{"code":-8,"message":"Block height out of range"}'
        assert raw.frame()[1] == b'{"jsonrpc":"2.0","error":%b,"id":"x"}' % error
        raw.text('{"method":"getblockchaininfo","id":2}')
        difficulty = json.loads(raw.frame()[1], parse_float=Decimal)["result"]["difficulty"]
        assert difficulty > 0


NODE_SCRIPT = """
const WebSocket = require('ws');
const ws = new WebSocket(process.argv[2]);
let id = 0;
const waiting = {};
const call = (method, ...params) => new Promise((resolve, reject) => {
    waiting[++id] = {resolve, reject};
    ws.send(JSON.stringify({jsonrpc: '2.0', method, params, id}));
});
const events = [];
ws.on('message', data => {
    const message = JSON.parse(data);
    if (message.method === 'subscription') {
        events.push(message.params.result.height);
        if (events.length === 103) { console.log(JSON.stringify(events)); ws.close(1000); }
        return;
    }
    const {resolve, reject} = waiting[message.id];
    message.error ? reject(message.error) : resolve(message.result);
});
ws.on('open', async () => {
    await call('createwallet', 'w');
    await call('subscribe', 'blocks');
    const address = await call('getnewaddress');
    await call('generatetoaddress', 101, address);
    const txid = await call('sendtoaddress', address, 1.5);
    console.log(JSON.stringify([await call('getblockcount'), (await call('gettransaction', txid)).txid === txid]));
    try { await call('getblockhash', 5000); } catch (error) { console.log(JSON.stringify(error.code)); }
    await call('generatetoaddress', 2, address);
});
ws.on('error', error => console.log('error', error.message));
"""


@needs_node
def test_node_ws(litecoin: Litecoin, gateways: GatewayFactory) -> None:
    gateway = put(litecoin, gateways)
    result = subprocess.run(
        ["node", "-e", NODE_SCRIPT, "-", gateway.server.url],
        env={**os.environ, "NODE_PATH": str(NODE_MODULES)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert lines == [[101, True], -8, list(range(1, 104))], result.stderr


def test_the_gateway_waits_so_that_the_node_need_not(litecoin: Litecoin, gateways: GatewayFactory) -> None:
    gateway = put(litecoin, gateways)
    litecoin.call("createwallet", "w")
    address = litecoin.call("getnewaddress")
    clients = [Client(gateway.server.url) for _ in range(30)]
    results: list[Any] = []
    threads = [
        threading.Thread(target=lambda c=client: results.append(c.call("waitfornewblock"))) for client in clients
    ]  # type: ignore[misc]
    for thread in threads:
        thread.start()
    wait_for(lambda: gateway.waiting_calls == len(clients))
    with Client(gateway.server.url) as client:
        assert client.call("getblockcount") == 0
    (hash,) = litecoin.call("generatetoaddress", 1, address)
    for thread in threads:
        thread.join(10)
    assert results == [{"hash": hash, "height": 1}] * len(clients)
    for one in clients:
        one.close()


# Events


class View:
    """What one client makes of the events of `blocks`: it fails where they do not follow one another."""

    def __init__(self, url: str, genesis: str) -> None:
        self.chain = [genesis]
        self.seen = 0
        self.faults: list[str] = []
        self._client = Client(url)
        self._blocks = self._client.subscribe("blocks")
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            for event in self._blocks:
                self.seen += 1
                self._apply(event.data)
        except Exception as error:
            self.faults.append(repr(error))

    def _apply(self, block: dict[str, Any]) -> None:
        if block["kind"] == "connected":
            if block["previousblockhash"] != self.chain[-1] or block["height"] != len(self.chain):
                self.faults.append(f"{block} does not follow {self.chain[-1]}")
            self.chain.append(block["hash"])
        else:
            gone = self.chain.pop()
            if gone != block["hash"] or block["previousblockhash"] != self.chain[-1]:
                self.faults.append(f"{block} was not the tip, {gone} was")

    def close(self) -> None:
        self._blocks.close()
        self._client.close()
        self._thread.join(10)


class Publisher:
    """ZeroMQ notifications for a node that was built without them: the documented messages, for its real blocks.

    They are hashblock and sequence, each with its own numbers. Some are lost on the way, and it is started again, with
    numbers from 0, as a node's would be.
    """

    def __init__(self, litecoin: Litecoin, loss: float) -> None:
        import zmq

        self._litecoin = litecoin
        self._random = random.Random(7)
        self._loss = loss
        self._numbers = {"hashblock": 0, "sequence": 0}
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PUB)
        self.address = f"tcp://127.0.0.1:{free_port()}"
        self._socket.bind(self.address)
        self._stopped = threading.Event()
        self.lost = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        last = ""
        while not self._stopped.wait(0.01):
            try:
                tip = self._litecoin.call("getbestblockhash")
            except (OSError, RuntimeError):
                self._numbers = dict.fromkeys(self._numbers, 0)
                continue
            if tip != last:
                last = tip
                self._send("hashblock", bytes.fromhex(tip))
                self._send("sequence", bytes.fromhex(tip) + b"C")

    def _send(self, topic: str, body: bytes) -> None:
        number = self._numbers[topic]
        self._numbers[topic] += 1
        if self._random.random() < self._loss:
            self.lost += 1
            return
        self._socket.send_multipart([topic.encode(), body, number.to_bytes(4, "little")])

    def close(self) -> None:
        self._stopped.set()
        self._thread.join(40)
        self._socket.close(0)
        self._context.term()


@pytest.mark.parametrize("way", ["polling", "longpoll", "zmq"])
def test_every_view_is_the_node_s_chain(
    way: str, litecoin: Litecoin, gateways: GatewayFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"poll_interval": 0.1}
    publisher = None
    if way == "polling":
        monkeypatch.setattr(type(CORE), "can_wait", False)
    elif way == "longpoll":
        options = {"poll_interval": 2.0}
    else:
        publisher = Publisher(litecoin, loss=0.3)
        options = {"poll_interval": 0.2, "zmq": (publisher.address,)}
    gateway = put(litecoin, gateways, connections=200, **options)
    views = [View(gateway.server.url, litecoin.call("getblockhash", 0)) for _ in range(WATCHERS)]
    try:

        def settle() -> None:
            chain = litecoin.chain()
            wait_for(lambda: all(view.chain == chain or view.faults for view in views), 30, "every view")

        _live(litecoin, random.Random(way), settle)
        assert [fault for view in views for fault in view.faults] == []
        assert len({view.seen for view in views}) == 1
        assert views[0].seen >= 200 + 5
        if publisher is not None:
            assert publisher.lost
            assert gateway._notifications.missed
    finally:
        for view in views:
            view.close()
        if publisher is not None:
            publisher.close()


def _live(litecoin: Litecoin, random: random.Random, settle: Callable[[], None]) -> None:
    """Two hundred blocks, a crash, a reorganisation and a restart; now and then it waits for the views."""
    litecoin.call("createwallet", "w")
    addresses = iter([litecoin.call("getnewaddress") for _ in range(4)])

    def mine(count: int) -> None:
        address = next(addresses)  # another each time: the same blocks again would be no news
        while count:
            some = min(count, random.choice([1, 1, 1, 2, 3, 20]))
            litecoin.call("generatetoaddress", some, address)
            count -= some

    mine(70)
    settle()
    litecoin.kill()  # it has not written all of them down, and goes back
    litecoin.start()
    mine(60)
    settle()
    tip = litecoin.call("getblockcount")
    litecoin.call("invalidateblock", litecoin.call("getblockhash", tip - 4))
    mine(7)
    litecoin.stop()
    litecoin.start()
    mine(70)
    settle()


@pytest.mark.load
def test_a_block_of_four_thousand_transactions(litecoin: Litecoin, gateways: GatewayFactory) -> None:
    """Prompt readers lose nothing, also those that filter by an address, and a log of the usual length suffices."""
    signed, target = _four_thousand_payments(litecoin)
    gateway = put(litecoin, gateways)
    with Client(gateway.server.url) as client:
        mempool, paid = client.subscribe("mempool"), client.subscribe("mempool", filter={"address": [target]})
        txids = [answer["result"] for answer in litecoin.batch([("sendrawtransaction", [one]) for one in signed])]
        added = take(mempool, len(txids))
        assert {event["kind"] for event in added} == {"added"}
        assert {event["txid"] for event in added} == set(txids)
        assert {event["txid"] for event in take(paid, len(txids))} == set(txids)
        (hash,) = litecoin.call("generatetoaddress", 1, target)
        mined = take(mempool, -(-len(txids) // 4000))
        assert {event["hash"] for event in mined} == {hash}
        assert {txid for event in mined for txid in event["txids"]} == set(txids)
        assert target in take(paid, 1)[0]["addresses"]


def _four_thousand_payments(litecoin: Litecoin) -> tuple[list[str], str]:
    """Return so many signed transactions, and the address that they pay to."""
    for name in ("source", "wallet"):
        litecoin.call("createwallet", name)

    def ask(wallet: str, *calls: tuple[str, Any]) -> list[Any]:
        return [answer["result"] for answer in litecoin.batch(list(calls), f"/wallet/{wallet}")]

    (own,) = ask("source", ("getnewaddress", []))
    litecoin.call("generatetoaddress", 105, own)
    addresses = ask("wallet", *[("getnewaddress", [])] * 1000)
    for _ in range(4):
        ask("source", ("sendmany", ["", dict.fromkeys(addresses, 0.01)]))
        litecoin.call("generatetoaddress", 1, own)
    (unspent,) = ask("wallet", ("listunspent", []))
    inputs = [{"txid": coin["txid"], "vout": coin["vout"]} for coin in unspent]
    raw = ask("wallet", *(("createrawtransaction", [[one], {addresses[0]: 0.0099}]) for one in inputs))
    signed = ask("wallet", *(("signrawtransactionwithwallet", [one]) for one in raw))
    assert len(signed) == 4000
    return [one["hex"] for one in signed], addresses[0]


def test_a_node_with_one_thread_that_hangs_for_a_minute_loses_no_event(
    litecoin: Litecoin, gateways: GatewayFactory
) -> None:
    litecoin.stop()
    litecoin.start("-rpcthreads=1", "-rpcworkqueue=1")
    litecoin.call("createwallet", "w")
    address = litecoin.call("getnewaddress")
    gateway = put(litecoin, gateways, poll_interval=0.2, poll_timeout=2.0)
    views = [View(gateway.server.url, litecoin.call("getblockhash", 0)) for _ in range(5)]
    try:
        with Client(gateway.server.url) as client:
            states = client.subscribe("node")
            litecoin.call("generatetoaddress", 5, address)
            wait_for(lambda: all(view.chain == litecoin.chain() for view in views), 20)
            assert client.call("getblockcount") == 5
            begin = time.monotonic()
            litecoin.hang()
            while next(iter(states)).data["kind"] != "down":
                pass
            assert time.monotonic() - begin < 2.0 + 5.0, "it is noticed within the poll timeout and five seconds"
            for _ in range(int(HANG_SECONDS - (time.monotonic() - begin))):
                assert client.call("getblockcount") == 5, "others are answered from what is known"
                assert client.call("waitfornewblock", 1000)["height"] == 5
            litecoin.resume()
            litecoin.call("generatetoaddress", 3, address)
            chain = litecoin.chain()
            wait_for(lambda: all(view.chain == chain or view.faults for view in views), 30)
        assert [fault for view in views for fault in view.faults] == []
        assert {view.seen for view in views} == {8}
    finally:
        litecoin.resume()
        for view in views:
            view.close()


def test_a_node_that_is_killed_is_down_and_up_again(litecoin: Litecoin, gateways: GatewayFactory) -> None:
    gateway = put(litecoin, gateways)
    with Client(gateway.server.url) as client:
        states = client.subscribe("node")
        litecoin.kill()
        assert next(event.data["kind"] for event in states if event.data["kind"] == "down")
        with pytest.raises(RpcError) as caught:
            client.call("getblockcount")
        assert caught.value.code == -32009
        litecoin.start()
        assert next(event.data["kind"] for event in states if event.data["kind"] != "down") in ("up", "syncing")
        assert client.call("getblockcount") == 0  # the node has another cookie by now


def test_what_the_account_may_not_call_costs_only_its_topic(
    litecoin: Litecoin, gateways: GatewayFactory, caplog: pytest.LogCaptureFixture
) -> None:
    allowed = "getblockchaininfo,getblock,getblockhash,getblockheader,getblockcount,getrawmempool,getmempoolentry"
    litecoin.stop()
    litecoin.start(
        "-rpcauth=bot:9a2f2a8f5f7d2fd8$" + _hmac("9a2f2a8f5f7d2fd8", "secret"),
        f"-rpcwhitelist=bot:{allowed}",
        "-rpcwhitelistdefault=0",
    )
    gateway = ready(gateways(litecoin.url, upstream_user="bot", upstream_password="secret"))
    with Client(gateway.server.url) as client:
        assert client.call("getnodestate")["kind"] in ("up", "syncing")
        with pytest.raises(RpcError) as caught:
            client.call("getpeerinfo")
        assert caught.value.code == -32003
        assert client.call("getblockcount") == 0
    warnings = [record.getMessage() for record in caplog.records if "may not call" in record.getMessage()]
    assert warnings == ["the gateway's account may not call getpeerinfo: the topic peers has no events"]


def _hmac(salt: str, password: str) -> str:
    return hmac.new(salt.encode(), password.encode(), "sha256").hexdigest()

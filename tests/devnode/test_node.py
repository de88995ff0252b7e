"""The development node: an honest little chain, with the node's own shapes."""

from __future__ import annotations

import threading
from decimal import Decimal
from typing import Any

import pytest

from dilithion_ws.devnode import DevNode
from dilithion_ws.devnode.chain import MATURITY
from dilithion_ws.devnode.node import SUBSIDY
from dilithion_ws.devnode.primitives import Block, Transaction, coins, decode_address, encode_address, merkle_root

from ..support.devnode import Desk


@pytest.fixture
def desk() -> Desk:
    return Desk()


# The chain


def test_the_same_seed_repeats_history_to_the_hash() -> None:
    first, second, third = DevNode(seed=5), DevNode(seed=5), DevNode(seed=6)
    for node in (first, second, third):
        for _ in range(40):
            node.step()
    assert first.chain.tip.hash == second.chain.tip.hash != third.chain.tip.hash
    assert list(first.mempool.entries) == list(second.mempool.entries)
    assert first.network.peers == second.network.peers


def test_every_block_has_its_work_and_its_parent(desk: Desk) -> None:
    for _ in range(60):
        desk.node.step()
    chain = desk.node.chain
    assert len(chain.tips()) > 1, "a reorganisation now and then"
    for below, block in zip(chain.active, chain.active[1:], strict=False):
        assert block.header.previous == below.hash
        assert block.header.has_work
        assert block.header.merkle == merkle_root([tx.txid for tx in block.transactions])
        assert Transaction.parse(block.transactions[0].raw) == block.transactions[0]


def test_no_coin_is_made_or_lost(desk: Desk) -> None:
    for _ in range(80):
        desk.node.step()
    chain = desk.node.chain
    total = sum(coin.output.value for coin in chain.coins.values())
    assert total == SUBSIDY * chain.height, "the subsidies, fees included; the first one can't be spent"


def test_a_reorganisation_moves_coins_and_transactions_back(desk: Desk) -> None:
    node = desk.node
    address = desk.call("getnewaddress")
    txid = desk.call("sendtoaddress", address, 3)["txid"]
    fork, before = node.chain.tip, dict(node.chain.coins)
    desk.call("generatetoaddress", 1, address)
    assert desk.call("gettransaction", txid)["in_mempool"] is False
    parent = fork
    for height in (fork.height + 1, fork.height + 2):
        coinbase = Transaction.coinbase(height, "other", SUBSIDY, b"\x6a")
        parent = Block.mine(parent.hash, height, (coinbase,), parent.header.time + 1, parent.header.bits)
        steps = node._take(parent)
    assert [step.connected for step in steps] == [False, True, True]
    assert node.chain.coins == before
    assert desk.call("gettransaction", txid) == {"txid": txid, "confirmations": 0, "in_mempool": True}
    statuses = {(tip["status"], tip["branchlen"]) for tip in desk.call("getchaintips")}
    assert statuses == {("active", 0), ("valid-fork", 1)}


def test_invalid_blocks_are_refused(desk: Desk) -> None:
    chain = desk.node.chain
    good = desk.node._assemble(chain.tip, desk.node.wallet.addresses[0], 0)
    for bad in (
        Block(good.header, good.transactions, good.height + 1),
        Block.mine("11" * 32, 5, good.transactions, 1, good.header.bits),
    ):
        with pytest.raises(ValueError, match="no known parent"):
            chain.add(bad)
    assert chain.add(good)
    assert chain.add(good) == []


def test_double_spends_and_thefts_are_refused(desk: Desk) -> None:
    node = desk.node
    tx, _ = node.wallet.build(node.others.addresses[0], 10**8)
    theft = Transaction(tuple(type(item)(item.source, b"not the secret") for item in tx.inputs), tx.outputs)
    twice = Transaction(tx.inputs * 2, tx.outputs)
    more = Transaction(tx.inputs, (type(tx.outputs[0])(10**12, tx.outputs[0].script),))
    for bad, reason in ((theft, "Script"), (twice, "twice"), (more, "worth more")):
        with pytest.raises(ValueError, match=reason):
            node.submit(bad)
    node.submit(tx)
    with pytest.raises(ValueError, match="already in mempool"):
        node.submit(tx)


# Amounts and addresses


def test_addresses_are_dilithions() -> None:
    for number in range(50):
        address = encode_address(number.to_bytes(20, "big"))
        assert len(address) == 34
        assert address.startswith("D")
        assert decode_address(address) == number.to_bytes(20, "big")
    for recorded in ("DDLFPTpwFmHucbeV8XcnjpA2Ak8KZbnU9d", "D9WjHr24dowspCqwji6LpDqM1E6WZ8sWPp"):
        assert decode_address(recorded) is not None, "addresses of the real node"
    for bad in ("", "D0", "Dnope", "D" * 34, "D" * 400, address[:-1] + "1"):
        assert decode_address(bad) is None


def test_amounts_keep_eight_decimals() -> None:
    assert str(coins(0)) in ("0E-8", "0.00000000")
    assert f"{coins(1):f}" == "0.00000001"
    assert f"{coins(5_000_000_000):f}" == "50.00000000"


# The methods: the shapes of the facts


SHAPES: dict[str, tuple[dict[str, Any], set[str]]] = {
    "getblockchaininfo": ({}, {"chain", "blocks", "bestblockhash", "difficulty", "mediantime", "chainwork"}),
    "getmempoolinfo": ({}, {"size", "bytes", "usage", "min_fee_rate", "max_fee_rate"}),
    "getbalance": ({}, {"balance", "unconfirmed_balance", "immature_balance", "chain_health"}),
    "getwalletinfo": ({}, {"encrypted", "locked", "unlocked_until"}),
    "gethdwalletinfo": ({}, {"hdwallet", "account", "external_index", "internal_index"}),
    "getmininginfo": ({}, {"mining", "hashrate", "threads", "current_height", "blocks_found", "blocks_accepted"}),
    "getnetworkinfo": ({}, {"version", "subversion", "protocolversion"}),
    "getholdercount": ({}, {"holders", "utxos", "total_amount"}),
    "gettopholders": ({"count": 1}, {"holders", "utxos", "top"}),
    "getindexinfo": ({}, {"txindex", "coinstatsindex"}),
    "checkchain": ({}, {"your_height", "checkpoints", "checkpoints_verified", "chain_valid"}),
    "getminingaddress": ({}, {"address", "is_set"}),
    "rescanwallet": ({}, {"success", "addresses_scanned", "balance", "immature_balance"}),
    "listtransactions": ({"count": 2}, {"transactions"}),
    "help": ({}, {"commands"}),
    "getblockhash": ({"height": 3}, {"blockhash"}),
    "waitfornewblock": ({"timeout": 1}, {"hash", "height"}),
    "waitforblockheight": ({"height": 5}, {"hash", "height"}),
}


@pytest.mark.parametrize("method", SHAPES)
def test_results_have_the_nodes_members(desk: Desk, method: str) -> None:
    named, members = SHAPES[method]
    result = desk.call(method, **named)
    assert set(result) == members


def test_at_least_25_methods_each_with_a_summary_and_a_permission(desk: Desk) -> None:
    methods = desk.rpc.methods()
    assert len(methods) >= 25
    assert all(method.summary for method in methods.values())
    assert len(desk.call("help")["commands"]) == len(methods)


READ_ONLY = """getblockcount getblock getblockhash getbestblockhash getblockchaininfo getchaintips gettxout
getrawtransaction decoderawtransaction getnetworkinfo getpeerinfo testmempoolaccept getbalance getaddresses
listunspent gettransaction
listtransactions gethdwalletinfo listhdaddresses rescanwallet getmempoolinfo getrawmempool getmininginfo"""


def test_all_methods_that_only_read_are_there_with_the_nodes_permission(desk: Desk) -> None:
    methods = desk.rpc.methods()
    for name in READ_ONLY.split():
        permission = methods[name].permission
        assert permission is not None
        assert permission.startswith("READ_")


def test_blocks_at_every_verbosity(desk: Desk) -> None:
    for _ in range(5):
        desk.node.step()
    hash = desk.call("getblockhash", desk.node.chain.height - 1)["blockhash"]
    header = {
        "hash", "height", "version", "previousblockhash", "nextblockhash", "merkleroot", "time", "bits", "nonce", "size",
        "tx_count", "confirmations", "miner",
    }  # fmt: skip
    assert set(desk.call("getblock", hash, 0)) == header
    one, two = desk.call("getblock", hash=hash), desk.call("getblock", hash=hash, verbosity=2)
    assert one["tx"] == [tx["txid"] for tx in two["tx"]]
    assert two["tx"][0]["vin"] == [{"coinbase": True}]
    assert isinstance(two["tx"][0]["vout"][0]["value"], int), "ions in a block"
    assert one["bits"].startswith("0x")
    assert one["confirmations"] == 2
    best = desk.call("getblock", desk.call("getbestblockhash"))
    assert "nextblockhash" not in best
    assert desk.error("getblock", "00" * 32) == "Block not found"
    assert desk.error("getblockhash", 10**6) == "No block found at height 1000000"


def test_a_payment_from_end_to_end(desk: Desk) -> None:
    before = desk.call("getbalance")["balance"]
    to = desk.node.others.new_address()
    estimate = desk.call("estimatesendfee", address=to, amount=1.5)
    assert estimate["total"] == estimate["amount"] + estimate["fee"]
    txid = desk.call("sendtoaddress", address=to, amount=1.5)["txid"]
    assert txid in desk.call("getrawmempool")
    assert desk.call("getrawtransaction", txid, True)["confirmations"] == 0
    assert desk.call("getmempoolinfo")["size"] == 1
    desk.call("generatetoaddress", 1, to)
    assert desk.call("getrawmempool") == []
    found = desk.call("gettransaction", txid)
    assert found["wallet"] == {"category": "send", "amount": 150_000_000}
    assert found["confirmations"] == 1
    sent = next(item for item in desk.call("listtransactions")["transactions"] if item["txid"] == txid)
    assert (sent["category"], sent["amount"]) == ("send", Decimal("-1.50000000"))
    out = desk.call("gettxout", txid=txid, n=0)
    assert out["value"] == Decimal("1.5")
    assert out["coinbase"] is False
    assert desk.call("gettxout", txid, 7) is None
    proof = desk.call("gettxoutproof", [txid])
    assert desk.call("verifytxoutproof", proof)["txids"] == [txid]
    assert "does not match" in desk.error("verifytxoutproof", "00" * 32 + proof[64:])
    matured = desk.node.chain.height >= MATURITY
    assert matured
    after = desk.call("getbalance")["balance"]
    assert after < before or desk.call("getbalance")["unconfirmed_balance"] == 0


def test_amounts_are_exact_where_the_node_rounds(desk: Desk) -> None:
    to = desk.node.others.new_address()
    assert desk.call("estimatesendfee", to, 0.29)["amount"] == Decimal("0.29000000"), (
        "the node made 28999999 ions of it"
    )
    for amount in (0.00001, 0.00005):
        for answer in (desk.error("sendtoaddress", to, amount), desk.error("sendtoaddress", address=to, amount=amount)):
            assert "Amount below dust threshold" in answer, "the node read 1e-05 as 1"
    assert desk.call("estimatesendfee", to, "0.123456789")["amount"] == Decimal("0.12345678")
    assert "positive" in desk.error("sendtoaddress", to, -1)
    assert desk.error("sendtoaddress", "Dnope", 1.0) == "Invalid Dilithion address: Dnope"
    assert "Insufficient balance" in desk.error("sendtoaddress", to, 10**7)
    nobody = desk.call("getnewaddress")
    assert "No spendable outputs" in desk.error("sendtoaddress", address=to, amount=1, from_address=nobody)


def test_raw_transactions(desk: Desk) -> None:
    tx, _ = desk.node.wallet.build(desk.node.others.addresses[0], 10**8)
    decoded = desk.call("decoderawtransaction", tx.raw.hex())
    assert decoded == {"txid": tx.txid, "version": 1, "locktime": 0, "vin_count": len(tx.inputs), "vout_count": 2}
    tests = desk.call("testmempoolaccept", [tx.raw.hex(), "00"])
    assert [test["allowed"] for test in tests] == [True, False]
    assert tests[1]["reject-reason"] == "Failed to deserialize transaction: Insufficient data for uint32_t"
    assert desk.call("sendrawtransaction", tx.raw.hex()) == tx.txid
    assert "already in mempool" in desk.error("sendrawtransaction", tx.raw.hex())
    assert "deserialize" in desk.error("sendrawtransaction", "zz")
    coinbase = desk.node.chain.tip.transactions[0]
    assert "Coinbase" in desk.call("testmempoolaccept", [coinbase.raw.hex()])[0]["reject-reason"]
    assert desk.call("getrawtransaction", coinbase.txid) == coinbase.raw.hex()
    assert desk.error("getrawtransaction", "00" * 32) == "Transaction not found in mempool or blockchain"
    assert "not found" in desk.error("gettransaction", "00" * 32)
    assert "25" in desk.error("testmempoolaccept", ["00"] * 26)


def test_peers_and_bans(desk: Desk) -> None:
    desk.call("addnode", node="203.0.113.250:8444", command="add")
    assert "203.0.113.250:8444 (" in "".join(peer["addr"] for peer in desk.call("getpeerinfo"))
    count = desk.call("getconnectioncount")
    assert desk.call("disconnectnode", node="203.0.113.250:8444") == {
        "address": "203.0.113.250:8444",
        "disconnected": 1,
    }
    assert desk.call("getconnectioncount") == count - 1
    desk.call("setban", ip="203.0.113.251", bantime=60)
    desk.call("addnode", "203.0.113.251")
    assert desk.call("getconnectioncount") == count - 1, "a banned peer can't connect"
    assert set(desk.call("listbanned")[0]) == {
        "address", "banned_until", "ban_created", "ban_reason", "ban_reason_str", "misbehavior_type", "misbehavior_score",
    }  # fmt: skip
    desk.call("setban", "203.0.113.251", "remove")
    assert desk.call("listbanned") == []
    desk.call("setban", "203.0.113.251")
    desk.call("clearbanned")
    assert desk.call("listbanned") == []
    assert "Invalid command" in desk.error("setban", "1.2.3.4", "what")
    assert "Invalid command" in desk.error("addnode", "1.2.3.4", "what")
    assert "Missing" in desk.error("disconnectnode")


def test_mining_can_be_switched(desk: Desk) -> None:
    assert desk.call("stopmining") is True
    height = desk.call("getblockcount")
    desk.node.step()
    assert desk.call("getblockcount") == height
    assert desk.call("startmining") is True
    assert desk.call("setminingthreads", 4) == {"threads": 4}
    assert "thread count" in desk.error("setminingthreads", 0)
    address = desk.call("getnewaddress")
    assert desk.call("setminingaddress", [address][0]) == {"address": address, "success": True}
    assert desk.call("getminingaddress") == {"address": address, "is_set": True}
    assert "Invalid address format" in desk.error("setminingaddress", "Dnope")
    hashes = desk.call("generatetoaddress", 3, address)
    assert desk.call("getbestblockhash") == hashes[-1]
    assert "nblocks" in desk.error("generatetoaddress", 0, address)
    assert "Invalid Dilithion address" in desk.error("generatetoaddress", 1, "x")


def test_waiting_for_blocks(desk: Desk) -> None:
    node = desk.node
    address = desk.call("getnewaddress")
    best = desk.call("getbestblockhash")
    assert desk.call("waitforblock", hash=best)["hash"] == best
    assert "Missing hash" in desk.error("waitforblock")
    miner = threading.Timer(0.1, node.generate, (1, address))
    miner.start()
    assert desk.call("waitfornewblock", timeout=20_000)["height"] == node.chain.height
    miner.join()
    miner = threading.Timer(0.1, node.generate, (2, address))
    miner.start()
    assert desk.call("waitforblockheight", node.chain.height + 2)["height"] == node.chain.height
    miner.join()
    assert desk.call("waitforblock", blockhash="00" * 32, timeout_ms=5)["height"] == node.chain.height
    methods = desk.rpc.methods()
    assert all(methods[name].blocking for name in ("waitfornewblock", "waitforblock", "waitforblockheight"))


def test_stop_wants_to_be_confirmed(desk: Desk) -> None:
    assert "explicit confirmation" in desk.error("stop")
    assert not desk.stopped.is_set()
    assert desk.call("stop", confirm=True) == "Dilithion server stopping (confirmed)"
    assert desk.stopped.is_set()


def test_wallet_lists_agree(desk: Desk) -> None:
    unspent = desk.call("listunspent")
    assert sum(item["amount"] for item in unspent) == desk.call("getbalance")["balance"]
    assert desk.call("getaddresses") == [item["address"] for item in desk.call("listhdaddresses")]
    assert desk.call("listhdaddresses")[0]["path"] == "m/44'/573'/0'/0'/0'"
    top = desk.call("gettopholders", 1, "D")["top"][0]
    assert top["rank"] == 1


def test_the_node_runs_in_a_thread_of_its_own(desk: Desk) -> None:
    node = DevNode(seed=1, interval=0.01)
    before = node.chain.height
    node.start()
    node.wait_until(lambda: node.chain.height > before + 2, 20)
    node.stop()
    assert node.chain.height > before + 2
    assert not any(thread.name == "devnode" for thread in threading.enumerate())

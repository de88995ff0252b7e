"""The development node's wallet, contracts, upkeep and REST: what the pages of the node call."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from dilithion_ws import NODE_METHODS, Config, RpcTable, WebSocketServer
from dilithion_ws.devnode import DevNode
from dilithion_ws.devnode.methods import register_methods
from dilithion_ws.devnode.mnemonic import seed_of_words, words_of_seed
from dilithion_ws.devnode.primitives import Outpoint, Transaction, TxInput
from dilithion_ws.devnode.rest import register_rest

from ..support.devnode import Desk
from ..support.http import request

DIGITAL_DNA = {"getdigitaldnastats", "getdnamonitor", "getmydigitaldna", "collectdigitaldna"}


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_it_has_every_method_of_the_node(desk: Desk) -> None:
    assert set(NODE_METHODS) - set(desk.rpc.methods()) == DIGITAL_DNA


def test_params_that_a_method_does_not_have_are_ignored(desk: Desk) -> None:
    assert desk.call("getbalance", "*", 6) == desk.call("getbalance")
    assert desk.call("getblockcount", {"x": 1}) == desk.node.chain.height
    assert desk.call("listunspent", 0, 9999999, [])
    assert desk.call("getblock", hash=desk.node.chain.tip.hash, verbose=True)["height"] == desk.node.chain.height


# The wallet


def test_an_encrypted_wallet_spends_only_while_it_is_unlocked(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(desk.node.wallet.lock, "_clock", lambda: now)
    address = desk.call("getnewaddress")
    assert desk.call("getwalletinfo") == {"encrypted": False, "locked": False, "unlocked_until": 1}
    assert "not encrypted" in desk.error("walletlock")
    assert "not encrypted" in desk.error("walletpassphrase", "x")
    assert "empty" in desk.error("encryptwallet", "")
    desk.call("encryptwallet", "secret")
    assert "already" in desk.error("encryptwallet", "secret")
    assert desk.call("getwalletinfo") == {"encrypted": True, "locked": True, "unlocked_until": 0}
    for method, params in (("sendtoaddress", (address, 1)), ("exportmnemonic", ()), ("dumpprivkey", (address,))):
        assert "Unlock with walletpassphrase first" in desk.error(method, *params)
    assert "incorrect" in desk.error("walletpassphrase", "wrong")
    assert "between 0 and 86400" in desk.error("walletpassphrase", "secret", 10**6)
    desk.call("walletpassphrase", "secret", 60)
    assert desk.call("sendtoaddress", address, 1)["txid"]
    now += 61
    assert desk.call("getwalletinfo")["locked"] is True
    assert "incorrect" in desk.error("walletpassphrasechange", "wrong", "new")
    desk.call("walletpassphrasechange", "secret", "new")
    desk.call("walletpassphrase", "new", 0)
    now += 10**6
    assert desk.call("getwalletinfo")["locked"] is False
    desk.call("walletlock")
    assert desk.call("getwalletinfo")["locked"] is True


def test_a_wallet_comes_back_from_its_words(desk: Desk) -> None:
    addresses = [desk.call("getnewaddress") for _ in range(2)]
    words = desk.call("exportmnemonic")["mnemonic"]
    assert len(words.split()) == 24
    created = desk.call("createhdwallet", "secret")
    assert created["address"] not in desk.call("listhdaddresses")[0]["path"]
    assert desk.call("getwalletinfo")["locked"] is True
    assert desk.call("restorehdwallet", words)["success"] is True
    assert [desk.call("getnewaddress") for _ in range(2)] == addresses
    assert desk.call("restorehdwallet", created["mnemonic"], "secret")["address"] == created["address"]
    assert "Invalid mnemonic" in desk.error("restorehdwallet", "one two")


def test_words_have_a_checksum() -> None:
    seed = bytes(range(32))
    words = words_of_seed(seed)
    assert seed_of_words(words) == seed
    first, *rest = words.split()
    other = next(word for word in rest if word != first)
    assert seed_of_words(" ".join([other, *rest])) is None
    assert seed_of_words("x " * 24) is None


def test_keys_are_shown_and_added(desk: Desk) -> None:
    address = desk.call("getnewaddress")
    shown = desk.call("dumpprivkey", address)
    assert "already exists" in desk.error("importprivkey", shown["privkey"], shown["pubkey"])
    desk.call("createhdwallet")
    assert "not found in wallet" in desk.error("dumpprivkey", address)
    assert desk.call("importprivkey", shown["privkey"], shown["pubkey"])["address"] == address
    assert "Invalid address" in desk.error("dumpprivkey", "x")
    assert "base64" in desk.error("importprivkey", "?", "?")
    assert "validation failed" in desk.error("importprivkey", "AAAA", "AAAA")


def test_a_transaction_of_another_program_is_signed(desk: Desk) -> None:
    tx, _ = desk.node.wallet.build(desk.call("getnewaddress"), 10**8)
    unsigned = Transaction(tuple(TxInput(item.source, b"") for item in tx.inputs), tx.outputs)
    signed = desk.call("signrawtransaction", unsigned.raw.hex())
    assert signed["complete"] is True
    assert len(desk.call("sendrawtransaction", signed["hex"])) == 64
    foreign = Transaction((TxInput(Outpoint("11" * 32, 0), b""),), tx.outputs)
    assert desk.call("signrawtransaction", foreign.raw.hex())["complete"] is False
    assert "deserialize" in desk.error("signrawtransaction", "00")


def test_small_outputs_are_joined(desk: Desk) -> None:
    address = desk.call("getnewaddress")
    for _ in range(3):
        desk.call("sendtoaddress", address, 1)
        desk.call("generatetoaddress", 1, address)
    found = desk.call("consolidateutxos", 3)
    assert found["inputs_consolidated"] == 3
    assert found["total_utxos_after"] == found["total_utxos_before"] - 2
    assert found["amount"] + found["fee"] > 0
    desk.call("generatetoaddress", 1, address)
    assert desk.call("gettransaction", found["txid"])["in_mempool"] is False
    assert "between 2 and 200" in desk.error("consolidateutxos", 1)
    assert "Invalid destination" in desk.error("consolidateutxos", 2, "x")
    assert desk.call("clearwallettxs")["transactions_cleared"] == 3


# Contracts


def test_a_contract_is_claimed_with_its_preimage(desk: Desk) -> None:
    address, secret = desk.call("getnewaddress"), desk.call("generatepreimage")
    made = desk.call("createhtlc", "1.5", address, secret["hash"], 10)
    desk.call("generatetoaddress", 1, address)
    terms = desk.call("decodehtlc", made["txid"])
    assert (terms["hash_lock"], terms["amount"]) == (secret["hash"], Decimal("1.5"))
    assert (terms["timeout_height"], terms["can_refund"]) == (made["timeout_height"], False)
    assert "does not match" in desk.error("claimhtlc", htlc_txid=made["txid"], preimage="00" * 32)
    assert "not yet reached" in desk.error("refundhtlc", made["txid"])
    claimed = desk.call("claimhtlc", htlc_txid=made["txid"], preimage=secret["preimage"])
    desk.call("generatetoaddress", 1, address)
    assert desk.call("gettransaction", claimed["txid"])["in_mempool"] is False
    assert "not found" in desk.error("decodehtlc", made["txid"])


def test_a_contract_is_taken_back_after_its_timeout(desk: Desk) -> None:
    address, secret = desk.call("getnewaddress"), desk.call("generatepreimage")
    foreign = desk.node.others.addresses[0]
    made = desk.call("createhtlc", 2, foreign, secret["hash"], 3)
    desk.call("generatetoaddress", 1, address)
    assert "claim key" in desk.error("claimhtlc", htlc_txid=made["txid"], preimage=secret["preimage"])
    desk.call("generatetoaddress", 2, address)
    assert desk.call("decodehtlc", made["txid"])["can_refund"] is True
    assert desk.call("refundhtlc", made["txid"])["amount"] < 2
    for params, text in (
        ((0, address, secret["hash"], 3), "positive"),
        ((1, "x", secret["hash"], 3), "recipient"),
        ((1, address, "00", 3), "64 hex"),
        ((1, address, secret["hash"], 0), "timeout_blocks"),
    ):
        assert text in desk.error("createhtlc", *params)
    assert "not a valid HTLC" in desk.error("decodehtlc", desk.node.chain.tip.transactions[0].txid)


def test_swaps_are_listed(desk: Desk) -> None:
    address = desk.call("getnewaddress")
    begun = desk.call("initiateswap", "dilv", 1, 2, address)
    desk.call("acceptswap", begun["hash_lock"], 1, "00" * 32, address)
    found = desk.call("listswaps")
    assert found["count"] == 2
    assert [swap["role"] for swap in found["swaps"]] == ["initiator", "responder"]
    assert found["swaps"][0]["hash_lock"] == found["swaps"][1]["hash_lock"]


# Upkeep


def test_a_block_is_taken_out_of_the_chain_and_put_back(desk: Desk) -> None:
    published: list[tuple[str, int]] = []

    def publish(topic: str, event: dict[str, Any]) -> None:
        if topic == "blocks":
            published.append((event["kind"], event["height"]))

    desk.node.publish = publish
    chain = desk.node.chain
    tip, height = chain.tip.hash, chain.height
    found = desk.call("invalidateblock", height=height - 2)
    assert found == {"disconnected": 3, "new_height": height - 3, "new_tip": chain.tip.hash}
    desk.call("generatetoaddress", 1, desk.call("getnewaddress"))
    assert desk.call("reconsiderblock", tip)["new_tip"] == tip
    assert published == [
        *(("disconnected", height - at) for at in range(3)),
        ("connected", height - 2),
        ("disconnected", height - 2),
        *(("connected", height - at) for at in (2, 1, 0)),
    ]
    assert "genesis" in desk.error("invalidateblock", height=0)
    assert "not found" in desk.error("invalidateblock", "00")
    assert "not found" in desk.error("reconsiderblock", "00")


def test_identities_of_miners(desk: Desk) -> None:
    desk.call("setminingaddress", desk.call("getnewaddress"))
    info = desk.call("getdfmpinfo")
    assert len(info["mik_identity"]) == 40
    recent, all_blocks = desk.call("getmikdistribution"), desk.call("getfullmikdistribution")
    assert sum(row["blocks"] for row in recent["distribution"]) == desk.node.chain.height
    assert all_blocks["total_blocks"] == desk.node.chain.height
    desk.call("banmik", "AB" * 20)
    assert desk.call("listbannedmiks") == ["ab" * 20]
    desk.call("unbanmik", "ab" * 20)
    assert desk.call("listbannedmiks") == []
    assert "40 hex" in desk.error("banmik", "x")


@pytest.mark.parametrize(
    "method",
    ["getblocktrackerinfo", "checkblockdb", "scanblockdb", "repairblocks", "getsybilrelays", "getcorrelatedalerts"],
)
def test_reports_of_a_node_without_damage(desk: Desk, method: str) -> None:
    assert isinstance(desk.call(method), dict)


def test_what_the_development_node_cannot_do_is_said(desk: Desk) -> None:
    for method in ("getx402info", "verifyx402payment", "settlex402payment"):
        assert "DilV only" in desk.error(method)
    assert "seed nodes" in desk.error("getmikattestation")
    assert "in memory" in desk.error("savemempool")
    assert "reason" in desk.error("forcerebuild", "")
    assert desk.call("forcerebuild", "test")["reason"] == "test"
    assert "No blocks" in desk.error("requestblocks")
    assert desk.call("requestblocks", heights=[1])["blocks_requested"] == 1


# REST


@pytest.fixture
def served() -> Iterator[tuple[WebSocketServer, DevNode]]:
    rpc, node = RpcTable(), DevNode(seed=3, mining=False)
    with WebSocketServer(rpc, Config()) as server:
        register_methods(rpc, node, lambda: None)
        register_rest(server, node)
        yield server, node


def ask(server: WebSocketServer, path: str, body: Any = None) -> tuple[int, Any]:
    status, _, text = request(server, "GET" if body is None else "POST", f"/api/v1/{path}", body)
    return status, json.loads(text)


def test_a_light_wallet_pays_by_rest(served: tuple[WebSocketServer, DevNode]) -> None:
    server, node = served
    address = node.wallet.addresses[0]
    status, info = ask(server, "info")
    assert (status, info["height"]) == (200, node.chain.height)
    assert ask(server, "fee")[1]["unit"] == "ions_per_kb"
    balance = ask(server, f"balance/{address}")[1]
    utxos = ask(server, f"utxos/{address}")[1]
    assert sum(utxo["amount"] for utxo in utxos["utxos"]) == balance["confirmed"] + balance["immature"]
    tx, _ = node.wallet.build(address, 10**8)
    assert ask(server, "broadcast", {"rawtx": tx.raw.hex()}) == (200, {"txid": tx.txid, "accepted": True})
    assert ask(server, f"tx/{tx.txid}")[1]["in_mempool"] is True
    assert ask(server, f"utxos/{address}")[1]["count"] < utxos["count"]
    node.generate(1, address)
    assert ask(server, f"tx/{tx.txid}")[1]["confirmations"] == 1
    for path, status, code in (("balance/x", 400, 1003), ("utxos/x", 400, 1003), ("tx/x", 400, 1004)):
        found, answer = ask(server, path)
        assert (found, answer["error"]["code"]) == (status, code)
    assert ask(server, "tx/" + "00" * 32)[1]["error"]["code"] == 3001
    for body, code in (({}, 1005), ({"rawtx": "zz"}, 1007), ({"rawtx": tx.raw.hex()}, 1008)):
        assert ask(server, "broadcast", body)[1]["error"]["code"] == code

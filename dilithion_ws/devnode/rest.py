"""The node's REST interface, `/api/v1`, for light wallets."""

from __future__ import annotations

import json
from typing import Any

from .. import HttpCall, HttpReply, WebSocketServer
from .mempool import MINIMUM_FEE_RATE
from .node import DevNode
from .primitives import Transaction, coins, decode_address

__all__ = ["register_rest"]

_PREFIX = "/api/v1/"
_MAX_UTXOS = 1000


def register_rest(server: WebSocketServer, node: DevNode) -> None:
    """Serve the paths. They need no login, as on the node."""
    rest = _Rest(node)
    for name, handler in (
        ("info", rest.info),
        ("fee", rest.fee),
        ("balance/", rest.balance),
        ("utxos/", rest.utxos),
        ("tx/", rest.transaction),
    ):
        server.routes.add(_PREFIX + name, handler, is_public=True, rate="api/v1/" + name.rstrip("/"))
    server.routes.add(_PREFIX + "broadcast", rest.broadcast, methods=("POST",), is_public=True, rate="api/v1/broadcast")


class _Rest:
    def __init__(self, node: DevNode) -> None:
        self._node = node

    def info(self, call: HttpCall) -> HttpReply:
        node = self._node
        with node.lock:
            tip = node.chain.tip
            return _reply({"height": tip.height, "bestblockhash": tip.hash, "chain": "devnet", "difficulty": 1})

    def fee(self, call: HttpCall) -> HttpReply:
        return _reply(
            {"recommended": 2000 * MINIMUM_FEE_RATE, "minimum": 1000 * MINIMUM_FEE_RATE, "unit": "ions_per_kb"}
        )

    def balance(self, call: HttpCall) -> HttpReply:
        address = _last(call)
        if decode_address(address) is None:
            return _error(400, 1003, "Invalid address format")
        node = self._node
        with node.lock:
            found = [coin for coin in node.chain.coins.values() if coin.output.address == address]
            mature = sum(coin.output.value for coin in found if node.wallet.is_mature(coin))
            immature = sum(coin.output.value for coin in found) - mature
        amounts = {"confirmed": mature, "immature": immature, "unconfirmed": 0}
        shown = {f"{name}_formatted": f"{coins(value):f}" for name, value in amounts.items()}
        return _reply({"address": address, **amounts, **shown})

    def utxos(self, call: HttpCall) -> HttpReply:
        address = _last(call)
        if decode_address(address) is None:
            return _error(400, 1003, "Invalid address format")
        node = self._node
        with node.lock:
            found = [
                {
                    "txid": source.txid,
                    "vout": source.index,
                    "amount": coin.output.value,
                    "amount_formatted": f"{coins(coin.output.value):f}",
                    "confirmations": node.chain.height - coin.height + 1,
                    "coinbase": coin.coinbase,
                }
                for source, coin in node.chain.coins.items()
                if coin.output.address == address and not node.mempool.is_spent(source)
            ]
        shown = found[:_MAX_UTXOS]
        return _reply({"address": address, "utxos": shown, "count": len(shown), "truncated": len(found) > len(shown)})

    def transaction(self, call: HttpCall) -> HttpReply:
        txid, node = _last(call), self._node
        if len(txid) != 64:
            return _error(400, 1004, "Invalid transaction ID format")
        with node.lock:
            if txid in node.mempool.entries:
                return _reply({"txid": txid, "confirmations": 0, "in_mempool": True})
            found = node.chain.find_transaction(txid)
            if found is None:
                return _error(404, 3001, "Transaction not found")
            block = found[1]
            place = {"blockhash": block.hash, "blockheight": block.height}
            confirmations = node.chain.height - block.height + 1
            return _reply({"txid": txid, **place, "confirmations": confirmations, "in_mempool": False})

    def broadcast(self, call: HttpCall) -> HttpReply:
        try:
            text = json.loads(call.body)["rawtx"]
            tx = Transaction.parse(bytes.fromhex(text))
        except (LookupError, TypeError):
            return _error(400, 1005, "Missing rawtx parameter")
        except ValueError as error:
            return _error(400, 1007, f"Failed to deserialize transaction: {error}")
        try:
            self._node.submit(tx)
        except ValueError as error:
            return _error(400, 1008, f"Transaction validation failed: {error}")
        return _reply({"txid": tx.txid, "accepted": True})


def _last(call: HttpCall) -> str:
    return call.path.rpartition("/")[2]


def _reply(value: Any) -> HttpReply:
    return HttpReply(json.dumps(value).encode())


def _error(status: int, code: int, message: str) -> HttpReply:
    return HttpReply(json.dumps({"error": {"code": code, "message": message}}).encode(), status=status)

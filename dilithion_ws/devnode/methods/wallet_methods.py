"""Methods about the wallet, with the node's names, params and results."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from ... import RpcTable
from ..node import DevNode
from ..primitives import COIN, Transaction, coins, decode_address
from ..wallet import DUST
from .chain_methods import failure, transaction_fields

__all__ = ["register_wallet_methods", "to_ions"]


def register_wallet_methods(rpc: RpcTable, node: DevNode) -> None:
    """Add the methods to a table."""
    chain, wallet, mempool = node.chain, node.wallet, node.mempool

    @rpc.method(permission="READ_WALLET")
    def getbalance() -> dict[str, Any]:
        """Get wallet balance (available, unconfirmed, immature)"""
        with node.lock:
            balance = wallet.balance()
        return {
            "balance": coins(balance.available),
            "unconfirmed_balance": coins(balance.unconfirmed),
            "immature_balance": coins(balance.immature),
            "chain_health": "OK",
        }

    @rpc.method(permission="WRITE_WALLET")
    def getnewaddress() -> str:
        """Get a new receiving address"""
        with node.lock:
            return wallet.new_address()

    @rpc.method(permission="READ_WALLET")
    def getaddresses() -> list[str]:
        """List all wallet addresses"""
        return list(wallet.addresses)

    @rpc.method(permission="READ_WALLET")
    def listhdaddresses() -> list[dict[str, str]]:
        """List all wallet addresses with their paths"""
        return [
            {"address": address, "path": f"m/44'/573'/0'/0'/{at}'"} for at, address in enumerate(list(wallet.addresses))
        ]

    @rpc.method(permission="READ_WALLET")
    def gethdwalletinfo() -> dict[str, Any]:
        """Get the state of the HD wallet"""
        return {"hdwallet": True, "account": 0, "external_index": len(wallet.addresses), "internal_index": 0}

    @rpc.method(permission="READ_WALLET")
    def listunspent() -> list[dict[str, Any]]:
        """List unspent transaction outputs"""
        with node.lock:
            return [
                {
                    "txid": source.txid,
                    "vout": source.index,
                    "address": coin.output.address,
                    "amount": coins(coin.output.value),
                    "confirmations": chain.height - coin.height + 1,
                }
                for source, coin in wallet.coins()
                if wallet.is_mature(coin)
            ]

    @rpc.method(permission="READ_WALLET")
    def listtransactions(count: int = 50) -> dict[str, Any]:
        """List wallet transactions"""
        with node.lock:
            history = wallet.history()[: min(max(0, count), 1000)]
            shown = []
            for category, address, amount, fee, tx, block in history:
                item: dict[str, Any] = {
                    "txid": tx.txid,
                    "address": address,
                    "category": category,
                    "amount": coins(amount),
                }
                if fee is not None:
                    item["fee"] = coins(fee)
                item |= {
                    "confirmations": chain.height - block.height + 1,
                    "blockhash": block.hash,
                    "time": block.header.time,
                    "generated": tx.is_coinbase,
                }
                shown.append(item)
            return {"transactions": shown}

    @rpc.method(permission="READ_WALLET")
    def gettransaction(txid: str) -> dict[str, Any]:
        """Get transaction details by txid"""
        with node.lock:
            if txid in mempool.entries:
                return {"txid": txid, "confirmations": 0, "in_mempool": True}
            found = chain.find_transaction(txid)
            if found is None:
                raise failure("Transaction not found")
            tx, block = found
            return {
                "txid": txid,
                "version": tx.version,
                **transaction_fields(tx),
                "blockhash": block.hash,
                "blockheight": block.height,
                "confirmations": chain.height - block.height + 1,
                "in_mempool": False,
                **_wallet_view(node, tx),
            }

    @rpc.method(permission="READ_WALLET")
    def rescanwallet() -> dict[str, Any]:
        """Rescan blockchain for wallet transactions"""
        with node.lock:
            balance = wallet.balance()
            return {
                "success": True,
                "addresses_scanned": len(wallet.addresses),
                "balance": coins(balance.available),
                "immature_balance": coins(balance.immature),
            }

    @rpc.method(permission="WRITE_WALLET")
    def sendtoaddress(address: str, amount: Decimal, from_address: str | None = None) -> dict[str, str]:
        """Send coins to an address"""
        ions = to_ions(amount)
        with node.lock:
            try:
                tx, fee = wallet.build(address, ions, from_address)
                node.submit(tx)
            except ValueError as error:
                raise failure(str(error)) from None
            wallet.sent[tx.txid] = (address, ions, fee)
        return {"txid": tx.txid}

    @rpc.method(permission="READ_WALLET")
    def estimatesendfee(address: str, amount: Decimal, from_address: str | None = None) -> dict[str, Any]:
        """Estimate the fee of a payment without sending it"""
        ions = to_ions(amount)
        with node.lock:
            try:
                _, fee = wallet.build(address, ions, from_address)
            except ValueError as error:
                raise failure(str(error)) from None
            balance = wallet.balance().available
        return {
            "address": address,
            "amount": coins(ions),
            "fee": coins(fee),
            "total": coins(ions + fee),
            "balance": coins(balance),
        }

    @rpc.method
    def getminingaddress() -> dict[str, Any]:
        """Get the address that mined blocks pay to"""
        address = node.mining_address
        return {"address": address or "", "is_set": address is not None}

    @rpc.method
    def setminingaddress(address: str) -> dict[str, Any]:
        """Set the address that mined blocks pay to"""
        if decode_address(address) is None:
            raise failure(f"Invalid address format: {address}")
        node.mining_address = address
        return {"address": address, "success": True}


def to_ions(amount: Decimal) -> int:
    """Return an amount in ions, cut to the last one, without going through a float."""
    if not amount.is_finite() or amount <= 0 or amount > 21_000_000_000:
        raise failure("Invalid amount (must be positive)")
    ions = int(amount * COIN)  # the node cuts what is beyond 8 decimals, too
    if ions < DUST:
        text = f"{coins(ions):f} DIL"
        raise failure(
            f"Amount below dust threshold (0.00050000 DIL minimum, got {text}). Dust outputs are uneconomical to spend."
        )
    return ions


def _wallet_view(node: DevNode, tx: Transaction) -> dict[str, Any]:
    """What a transaction means to the wallet: nothing, or the amounts in ions."""
    wallet = node.wallet
    mine = [(index, output) for index, output in enumerate(tx.outputs) if wallet.owns(output.address)]
    if tx.txid in wallet.sent:
        address, amount, _ = wallet.sent[tx.txid]
        details = [{"address": address, "category": "send", "amount": amount, "vout": 0}]
        return {"wallet": {"category": "send", "amount": amount}, "details": details}
    if not mine:
        return {}
    details = [
        {"address": output.address, "category": "receive", "amount": output.value, "vout": index}
        for index, output in mine
    ]
    total = sum(output.value for _, output in mine)
    return {"wallet": {"category": "receive", "amount": total}, "details": details}

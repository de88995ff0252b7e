"""Transactions that wait for a block."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .block_event import Publish, discard
from .chain import Chain, Coin, Step
from .primitives import Block, Outpoint, Transaction, coins

__all__ = ["MempoolEntry", "Mempool"]

MINIMUM_FEE_RATE = 5
"""Ions a byte."""


@dataclass(frozen=True)
class MempoolEntry:
    """An unconfirmed transaction, its fee in ions, and the time of its arrival."""

    tx: Transaction
    fee: int
    time: int


class Mempool:
    """The unconfirmed transactions. Not thread-safe: the node holds its lock around every use."""

    def __init__(self, chain: Chain, publish: Publish = discard) -> None:
        self._chain = chain
        self._publish = publish
        self.sequence = 0
        self._spends: dict[Outpoint, str] = {}
        self.entries: dict[str, MempoolEntry] = {}

    def check(self, tx: Transaction) -> int:
        """Return the fee of a transaction. Raise ValueError with the reason if the mempool does not accept it."""
        if tx.is_coinbase:
            raise ValueError("Coinbase transaction not allowed in mempool")
        if tx.txid in self.entries:
            raise ValueError("Transaction already in mempool")
        if self._chain.find_transaction(tx.txid) is not None:
            raise ValueError("Transaction already in block chain")
        if any(item.source in self._spends for item in tx.inputs):
            raise ValueError("Input is spent by another transaction in the mempool")
        fee = self._chain.check_spend(tx, self.view(), self._chain.height + 1)
        if fee < MINIMUM_FEE_RATE * tx.size:
            raise ValueError(f"Fee is below {MINIMUM_FEE_RATE} ions a byte")
        return fee

    def add(self, tx: Transaction, time: int) -> MempoolEntry:
        """Add a transaction. Raise ValueError with the reason if the mempool does not accept it."""
        entry = self._add(tx, time)
        self._tell(entry, "added")
        return entry

    def _add(self, tx: Transaction, time: int) -> MempoolEntry:
        entry = MempoolEntry(tx, self.check(tx), time)
        self.entries[tx.txid] = entry
        for item in tx.inputs:
            self._spends[item.source] = tx.txid
        return entry

    def _tell(self, entry: MempoolEntry, kind: str, **more: str) -> None:
        self.sequence += 1
        event = {
            "kind": kind,
            "txid": entry.tx.txid,
            "size": entry.tx.size,
            "fee": coins(entry.fee),
            "sequence": self.sequence,
            "addresses": entry.tx.addresses,
            **more,
        }
        self._publish("mempool", event)

    def _tell_mined(self, block: Block) -> set[str]:
        """Publish which transactions a block has, without its coinbase. Return their ids."""
        transactions = block.transactions[1:]
        if not transactions:
            return set()
        self.sequence += 1
        txids = [tx.txid for tx in transactions]
        addresses = {address for tx in transactions for address in tx.addresses}
        event = {
            "kind": "mined",
            "height": block.height,
            "hash": block.hash,
            "txids": txids,
            "sequence": self.sequence,
            "addresses": sorted(addresses),
        }
        self._publish("mempool", event)
        return set(txids)

    def is_spent(self, source: Outpoint) -> bool:
        """Return whether an unconfirmed transaction spends an output."""
        return source in self._spends

    def view(self) -> dict[Outpoint, Coin]:
        """Return the outputs that a new transaction may spend, confirmed and unconfirmed."""
        coins = dict(self._chain.coins)
        for entry in self.entries.values():
            for index, output in enumerate(entry.tx.outputs):
                coins[Outpoint(entry.tx.txid, index)] = Coin(output, self._chain.height + 1, False)
        return coins

    def choose(self, most: int) -> tuple[list[Transaction], int]:
        """Return the transactions for a new block, parents before children, and their fees."""
        chosen = list(self.entries.values())[:most]
        return [entry.tx for entry in chosen], sum(entry.fee for entry in chosen)

    def follow(self, steps: Iterable[Step], time: int) -> None:
        """Remove transactions that blocks contain or contradict, and add those of disconnected blocks."""
        before, mined = dict(self.entries), set[str]()
        returned: list[Transaction] = []
        connected: dict[str, Block] = {}
        for step in steps:
            if step.connected:
                connected[step.block.hash] = step.block
            else:
                connected.pop(step.block.hash, None)
                returned += [tx for tx in step.block.transactions if not tx.is_coinbase]
        waiting = returned + [entry.tx for entry in before.values()]
        self.entries.clear()
        self._spends.clear()
        for tx in waiting:
            try:
                self._add(tx, time)
            except ValueError:
                pass  # spent, or mined, on the new branch
        for block in connected.values():
            mined |= self._tell_mined(block)
        for txid, entry in before.items():
            if txid not in self.entries and txid not in mined:
                self._tell(entry, "removed", reason="conflict")
        for txid, entry in self.entries.items():
            if txid not in before:
                self._tell(entry, "added")

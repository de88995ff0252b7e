"""The block chain: all known blocks, the active branch, and its unspent outputs.

Connecting a block records what it spent, so that it can be disconnected again. A branch with more work than the active
one makes a reorganisation: blocks are disconnected down to the fork, then the others are connected.
"""

from __future__ import annotations

from dataclasses import dataclass

from .htlc import htlc_of_script
from .primitives import Block, Outpoint, Transaction, TxOutput, digest

__all__ = ["Chain", "Coin", "Step"]

MATURITY = 100
"""Blocks until the coins of a coinbase may be spent."""


@dataclass(frozen=True)
class Coin:
    """An unspent output: its value and owner, the height of its block, and whether a coinbase made it."""

    output: TxOutput
    height: int
    coinbase: bool


@dataclass(frozen=True)
class Step:
    """One change of the active chain: a block was connected or disconnected."""

    connected: bool
    block: Block


class Chain:
    """The blocks and the active chain. Not thread-safe: the node holds its lock around every use."""

    def __init__(self, genesis: Block) -> None:
        self._known: dict[str, Block] = {genesis.hash: genesis}
        self._work: dict[str, int] = {genesis.hash: genesis.header.work}
        self._spent: dict[str, dict[Outpoint, Coin]] = {}  # by block: what it took away
        self._invalid: set[str] = set()  # blocks that were taken out of the chain by hand
        self._places: dict[str, Block] = {}  # by transaction: the active block that has it
        self.active: list[Block] = []
        self.coins: dict[Outpoint, Coin] = {}
        self._connect(genesis)

    @property
    def tip(self) -> Block:
        """The last block of the active chain."""
        return self.active[-1]

    @property
    def height(self) -> int:
        """The height of the tip."""
        return len(self.active) - 1

    @property
    def total_work(self) -> int:
        """Work of the active chain."""
        return self._work[self.tip.hash]

    def block(self, hash: str) -> Block | None:
        """Return a block of any branch."""
        return self._known.get(hash)

    def is_active(self, block: Block) -> bool:
        """Return whether a block is on the active chain."""
        return block.height <= self.height and self.active[block.height].hash == block.hash

    def find_transaction(self, txid: str) -> tuple[Transaction, Block] | None:
        """Return a transaction of the active chain, and its block."""
        block = self._places.get(txid)
        if block is None:
            return None
        return next(tx for tx in block.transactions if tx.txid == txid), block

    def tips(self) -> list[tuple[Block, int]]:
        """Return the last block of each branch, with the length of the branch outside of the active chain."""
        parents = {block.header.previous for block in self._known.values()}
        ends = [block for block in self._known.values() if block.hash not in parents]
        return [(block, self._branch_length(block)) for block in sorted(ends, key=lambda block: -block.height)]

    def _branch_length(self, block: Block) -> int:
        length = 0
        while not self.is_active(block):
            block = self._known[block.header.previous]
            length += 1
        return length

    def check_spend(self, tx: Transaction, coins: dict[Outpoint, Coin], height: int) -> int:
        """Return the fee of a transaction in a block of this height. Raise ValueError if it is invalid."""
        sources = [item.source for item in tx.inputs]
        if len(set(sources)) != len(sources):
            raise ValueError("an output is spent twice")
        total = 0
        for item in tx.inputs:
            coin = coins.get(item.source)
            if coin is None:
                raise ValueError("Input is missing or spent")
            if coin.coinbase and height - coin.height < MATURITY:
                raise ValueError("Coinbase is not mature")
            terms = htlc_of_script(coin.output.script)
            if terms is None:
                is_right = digest(item.script)[:20] == coin.output.script[3:23]
            else:
                is_right = terms.may_spend(item.script, height)
            if not is_right:
                raise ValueError("Script verification failed")
            total += coin.output.value
        fee = total - sum(output.value for output in tx.outputs)
        if fee < 0:
            raise ValueError("Outputs are worth more than inputs")
        return fee

    def add(self, block: Block) -> list[Step]:
        """Add a block. Return the changes of the active chain, in order. Raise ValueError if the block is invalid."""
        parent = self._known.get(block.header.previous)
        if parent is None or block.height != parent.height + 1 or not block.header.has_work:
            raise ValueError("the block has no known parent, or no proof of work")
        if block.hash in self._known:
            return []
        self._known[block.hash] = block
        self._work[block.hash] = self._work[parent.hash] + block.header.work
        if parent.hash in self._invalid:
            self._invalid.add(block.hash)
            return []
        if self._work[block.hash] <= self.total_work:
            return []
        return self._switch_to(block)

    def invalidate(self, block: Block) -> list[Step]:
        """Take a block and its descendants out of the chain. Return the changes."""
        self._invalid |= self._descendants(block)
        steps = []
        while self.tip.hash in self._invalid:
            steps.append(Step(False, self._disconnect()))
        return steps + self._switch_to_best()

    def reconsider(self, block: Block) -> list[Step]:
        """Undo that, also for the ancestors of a block. Return the changes."""
        self._invalid -= self._descendants(block)
        while block.height:
            self._invalid.discard(block.hash)
            block = self._known[block.header.previous]
        return self._switch_to_best()

    def _descendants(self, block: Block) -> set[str]:
        found = {block.hash}
        for other in sorted(self._known.values(), key=lambda other: other.height):
            if other.header.previous in found:
                found.add(other.hash)
        return found

    def _switch_to_best(self) -> list[Step]:
        valid = [block for block in self._known.values() if block.hash not in self._invalid]
        best = max(valid, key=lambda block: (self._work[block.hash], self.is_active(block)))
        return self._switch_to(best) if self._work[best.hash] > self.total_work else []

    def _switch_to(self, block: Block) -> list[Step]:
        branch = []
        while not self.is_active(block):
            branch.append(block)
            block = self._known[block.header.previous]
        steps = []
        while self.tip.hash != block.hash:
            steps.append(Step(False, self._disconnect()))
        for block in reversed(branch):
            self._connect(block)
            steps.append(Step(True, block))
        return steps

    def _connect(self, block: Block) -> None:
        spent: dict[Outpoint, Coin] = {}
        for tx in block.transactions:
            if not tx.is_coinbase:
                self.check_spend(tx, self.coins, block.height)
                for item in tx.inputs:
                    spent[item.source] = self.coins.pop(item.source)
            for index, output in enumerate(tx.outputs):
                if output.address is not None or htlc_of_script(output.script) is not None:
                    self.coins[Outpoint(tx.txid, index)] = Coin(output, block.height, tx.is_coinbase)
            self._places[tx.txid] = block
        self._spent[block.hash] = spent
        self.active.append(block)

    def _disconnect(self) -> Block:
        block = self.active.pop()
        for tx in reversed(block.transactions):
            for index in range(len(tx.outputs)):
                self.coins.pop(Outpoint(tx.txid, index), None)
            del self._places[tx.txid]
        for source, coin in self._spent.pop(block.hash).items():
            if not any(source.txid == tx.txid for tx in block.transactions):  # an output that lived in this block only
                self.coins[source] = coin
        return block

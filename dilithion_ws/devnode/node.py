"""The development node: chain, mempool, wallet and peers under one lock, advanced step by step.

A step is all that a node lives through in one block interval: peers come and go, others pay each other and us, a block is
mined, now and then a branch of two blocks overtakes the last one. Steps draw from one random generator, so that the same
seed gives the same history, to the hash, as long as no client changes it.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from typing import Any

from ..util.thread_contracts import any_thread, owner_only
from .block_event import Publish, block_event, discard
from .chain import Chain, Step
from .mempool import Mempool, MempoolEntry
from .network import Network
from .primitives import COIN, Block, Transaction, script_of_address
from .wallet import Wallet

__all__ = ["DevNode"]

logger = logging.getLogger("dilithion_ws.devnode")

SUBSIDY = 50 * COIN
BITS = 0x2000FFFF  # a hash in 256 has the work
FIRST_BLOCKS = 110
STEP_SECONDS = 240
GENESIS_TIME = 1_737_158_400


class DevNode:
    """A node in memory.

    Args:
        seed: makes its whole history repeat; None takes a random one.
        interval: seconds between two blocks.
        mining: whether blocks come by themselves.

        publish: gets a topic and an event whenever something happens.
    """

    def __init__(
        self, seed: int | None = None, interval: float = 2.0, mining: bool = True, publish: Publish = discard
    ) -> None:
        self.publish = publish
        self.lock = threading.RLock()  # guards everything of the node; `changed` waits on it
        self.changed = threading.Condition(self.lock)
        self._rng = random.Random(seed)
        self._seeded = seed is not None
        self._interval = interval
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        genesis = Block.mine("00" * 32, 0, (Transaction.coinbase(0, "nobody", SUBSIDY, b"\x6a"),), GENESIS_TIME, BITS)
        self.chain = Chain(genesis)
        self.mempool = Mempool(self.chain, self._tell)
        self.wallet = Wallet(self._rng.randbytes(32), self.chain, self.mempool)
        self.others = Wallet(self._rng.randbytes(32), self.chain, self.mempool)
        self.network = Network(self._rng, self._tell)
        self.mining = mining
        self.threads = 1
        self.mining_address: str | None = None
        self.blocks_found = 0
        self.hashes = 0
        self._age = 0.0  # seconds by which the node's time is behind the real one
        for left in range(FIRST_BLOCKS, 0, -1):
            # The times of blocks differ by a second at least. Those of the first ones end now, not minutes later.
            self._age = left * max(1.0, interval)
            self._mine_one()
        self._age = 0.0
        self.network.connect(self.now, self.chain.height)

    def _tell(self, topic: str, event: dict[str, Any]) -> None:
        try:
            self.publish(topic, event)
        except Exception:
            logger.exception("an event of topic %s was not published", topic)

    @property
    def now(self) -> int:
        """Return the node's time in Unix seconds: the real time, or, with a seed, a time derived from the blocks."""
        return self.chain.tip.header.time if self._seeded else int(time.time() - self._age)

    @owner_only
    def start(self) -> None:
        """Start the thread that calls `step` once per block interval."""
        self._thread = threading.Thread(target=self._run, name="devnode", daemon=True)
        self._thread.start()

    @owner_only
    def stop(self) -> None:
        """Stop the thread."""
        self._stopped.set()
        with self.changed:
            self.changed.notify_all()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(5.0)

    def _run(self) -> None:
        while not self._stopped.wait(self._interval):
            try:
                self.step()
            except Exception:
                logger.exception("a step of the development node failed")

    @any_thread
    def step(self) -> None:
        """Simulate one block interval."""
        with self.changed:
            self.network.step(self.now, self.chain.height)
            self._trade()
            self._tell("mining", {"kind": "hashrate", "hashrate": self.hash_rate, "threads": self.threads})
            if not self.mining:
                return
            if self._rng.random() < 1 / 12:
                self._reorganise()
            else:
                self._mine_one()
            self.changed.notify_all()

    @property
    def hash_rate(self) -> int:
        """The mean number of hashes for a block."""
        return self.hashes // max(1, self.chain.height) if self.mining else 0

    @any_thread
    def set_mining(self, mining: bool) -> None:
        """Start or stop mining."""
        with self.changed:
            if mining != self.mining:
                self.mining = mining
                self._tell("mining", {"kind": "started", "threads": self.threads} if mining else {"kind": "stopped"})

    @any_thread
    def submit(self, tx: Transaction) -> MempoolEntry:
        """Add a transaction to the mempool. Raise ValueError with the reason if it is refused."""
        with self.changed:
            return self.mempool.add(tx, self.now)

    @any_thread
    def random_bytes(self, count: int) -> bytes:
        """Return bytes that the seed makes repeat. The lock is held."""
        return self._rng.randbytes(count)

    @any_thread
    def generate(self, count: int, address: str) -> list[str]:
        """Mine blocks for an address now. Return their hashes."""
        with self.changed:
            hashes = [self._mine_one(address).hash for _ in range(count)]
            self.changed.notify_all()
        return hashes

    @any_thread
    def read_blocks(self, height: int, count: int) -> list[dict[str, Any]]:
        """Return the events of the blocks of the best chain from a height on. See `WebSocketServer.history`."""
        with self.lock:
            return [block_event(Step(True, block)) for block in self.chain.active[height : height + count]]

    @any_thread
    def find_block(self, hash: str) -> dict[str, Any] | None:
        """Return the event of a block of any branch, or None."""
        with self.lock:
            block = self.chain.block(hash)
            return None if block is None else block_event(Step(True, block))

    @any_thread
    def read_transactions(self, hash: str) -> list[dict[str, Any]]:
        """Return the transactions of a block of any branch. See `WebSocketServer.transactions`."""
        with self.lock:
            block = self.chain.block(hash)
            return [] if block is None else [{"txid": tx.txid, "addresses": tx.addresses} for tx in block.transactions]

    @any_thread
    def read_mempool(self) -> list[dict[str, Any]]:
        """Return the transactions in the mempool, likewise."""
        with self.lock:
            waiting = [entry.tx for entry in self.mempool.entries.values()]
            return [{"txid": tx.txid, "addresses": tx.addresses} for tx in waiting]

    @any_thread
    def wait_until(self, reached: Callable[[], bool], seconds: float) -> None:
        """Wait until the chain has reached a state, the time is over, or the node stops."""
        with self.changed:
            self.changed.wait_for(lambda: reached() or self._stopped.is_set(), seconds)

    # What happens in a step; the lock is held

    def _trade(self) -> None:
        for _ in range(self._rng.randrange(4)):
            payer, payee = self.others, self.wallet if self._rng.random() < 0.3 else self.others
            amount = self._rng.randrange(COIN // 100, 2 * COIN)
            try:
                tx, _ = payer.build(self._rng.choice(payee.addresses), amount)
                self.mempool.add(tx, self.now)
            except ValueError:
                pass  # out of mature coins for the moment

    def _mine_one(self, address: str | None = None) -> Block:
        mine = address is None and self._rng.random() < 0.5
        owner = self.wallet if mine else self.others
        payee = address or (self.mining_address if mine else None) or owner.addresses[0]
        block = self._assemble(self.chain.tip, payee, most=5)
        self._take(block)
        if mine:
            self.blocks_found += 1
            self._tell("mining", {"kind": "block_found", "height": block.height, "hash": block.hash})
        return block

    def _assemble(self, parent: Block, payee: str, most: int) -> Block:
        script = script_of_address(payee)
        assert script is not None
        chosen, fees = self.mempool.choose(most) if most else ([], 0)
        coinbase = Transaction.coinbase(
            parent.height + 1, f"miner {self._rng.randrange(1 << 32)}", SUBSIDY + fees, script
        )
        moment = max(parent.header.time + 1, parent.header.time + STEP_SECONDS if self._seeded else self.now)
        block = Block.mine(parent.hash, parent.height + 1, (coinbase, *chosen), moment, BITS)
        self.hashes += block.header.nonce + 1
        return block

    def _take(self, block: Block) -> list[Step]:
        return self.apply(self.chain.add(block))

    @any_thread
    def apply(self, steps: list[Step]) -> list[Step]:
        """Publish changes of the chain, and follow them in the mempool. The lock is held."""
        for step in steps:
            self._tell("blocks", block_event(step))
        self.mempool.follow(steps, self.now)
        return steps

    def _reorganise(self) -> None:
        """Add two blocks of another miner on the parent of the tip."""
        parent = self.chain.active[-2]
        for _ in range(2):
            block = self._assemble(parent, self.others.addresses[0], most=0)
            self._take(block)
            parent = block
        logger.info("reorganised to %s at height %d", self.chain.tip.hash, self.chain.height)

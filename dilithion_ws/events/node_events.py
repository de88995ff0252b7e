"""The events of a node's four topics. The hub checks events against these types when a host publishes them.

Members have the names that the node's methods use. A host may add members; clients can rely on the ones here. `kind`
distinguishes the events of a topic.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

import msgspec

__all__ = [
    "BlockConnected",
    "BlockDisconnected",
    "BlockFound",
    "HashRate",
    "MiningStarted",
    "MiningStopped",
    "PeerBanned",
    "PeerConnected",
    "PeerDisconnected",
    "TransactionAdded",
    "TransactionConfirmed",
    "TransactionDropped",
    "TransactionRemoved",
    "TransactionSeen",
    "TransactionUnconfirmed",
    "TransactionsMined",
]


class _Event(msgspec.Struct, tag_field="kind", omit_defaults=True, frozen=True, kw_only=True):
    pass


class _Block(_Event, frozen=True, kw_only=True):
    height: int
    hash: str
    previousblockhash: str
    time: int
    tx_count: int


class BlockConnected(_Block, tag="connected", frozen=True, kw_only=True):
    """A block was connected to the best chain. Its parent was the tip.

    Attributes:
        height: its height.
        hash, previousblockhash: its hash and its parent's, hex.
        time: of its header, Unix seconds.
        tx_count: how many transactions it has.
    """


class BlockDisconnected(_Block, tag="disconnected", frozen=True, kw_only=True):
    """The tip was disconnected from the best chain, which now ends with its parent.

    A reorganisation is several of these, tip first, and then `connected` events.
    """


class TransactionAdded(_Event, tag="added", frozen=True, kw_only=True):
    """A transaction was added to the mempool.

    Attributes:
        txid: hex.
        size: bytes.
        fee: coins; absent if the host does not know it.
        sequence: counts all changes of the mempool, as Bitcoin Core's mempool sequence does.
        addresses: those that it pays or spends from, if the node knows them.
    """

    txid: str
    size: int
    fee: Decimal | None = None
    sequence: int
    addresses: tuple[str, ...] = ()


class TransactionRemoved(_Event, tag="removed", frozen=True, kw_only=True):
    """A transaction was removed from the mempool.

    `reason` is the cause, `unknown` if the host does not know it. The other members are those of `TransactionAdded`. A
    host that knows the blocks publishes one `TransactionsMined` in place of many of these.
    """

    txid: str
    reason: Literal["mined", "replaced", "expired", "conflict", "unknown"]
    size: int
    fee: Decimal | None = None
    sequence: int
    addresses: tuple[str, ...] = ()


class TransactionsMined(_Event, tag="mined", frozen=True, kw_only=True):
    """Transactions left the mempool since a block has them, also those that were never in it here.

    A block has one such event, or several if it has thousands of transactions.

    Attributes:
        height, hash: of the block.
        txids: hex; without that of the coinbase.
        sequence: see `TransactionAdded`.
        addresses: those that the transactions pay to or spend from, as far as they are known.
        unseen: how many of the transactions were not known before, and are not covered by `addresses`.
    """

    height: int
    hash: str
    txids: tuple[str, ...]
    sequence: int
    addresses: tuple[str, ...] = ()
    unseen: int = 0


class TransactionSeen(_Event, tag="seen", frozen=True, kw_only=True):
    """A followed transaction is in the mempool.

    Attributes:
        txid: hex.
        addresses: those of the followed addresses that it has.
        confirmations: 0.
    """

    txid: str
    addresses: tuple[str, ...] = ()
    confirmations: int


class TransactionConfirmed(_Event, tag="confirmed", frozen=True, kw_only=True):
    """A followed transaction has one more confirmation.

    Attributes:
        height, hash: of the block that has it.
        confirmations: 1 for that block, and one for each block after it.
        txid, addresses: see `TransactionSeen`.
    """

    txid: str
    addresses: tuple[str, ...] = ()
    height: int
    hash: str
    confirmations: int


class TransactionUnconfirmed(_Event, tag="unconfirmed", frozen=True, kw_only=True):
    """The block that had a followed transaction was disconnected. The members are those of `TransactionConfirmed`."""

    txid: str
    addresses: tuple[str, ...] = ()
    height: int
    hash: str


class TransactionDropped(_Event, tag="dropped", frozen=True, kw_only=True):
    """A followed transaction has left the mempool without a block.

    `reason` is the cause, `unknown` if the host does not know it. The other members are those of `TransactionSeen`.
    """

    txid: str
    addresses: tuple[str, ...] = ()
    reason: Literal["replaced", "expired", "conflict", "unknown"]


class PeerConnected(_Event, tag="connected", frozen=True, kw_only=True):
    """A peer has connected.

    Attributes:
        id: the node's number for it.
        addr: host and port.
        inbound: whether it connected to us.
        peers: the number of peers now.
    """

    id: int
    addr: str
    inbound: bool
    peers: int


class PeerDisconnected(_Event, tag="disconnected", frozen=True, kw_only=True):
    """A peer has disconnected. The members are those of `PeerConnected`."""

    id: int
    addr: str
    inbound: bool
    peers: int


class PeerBanned(_Event, tag="banned", frozen=True, kw_only=True):
    """An address has been banned.

    Attributes:
        addr: the address.
        banned_until: Unix seconds.
    """

    addr: str
    banned_until: int


class MiningStarted(_Event, tag="started", frozen=True, kw_only=True):
    """Mining has started with this many threads."""

    threads: int


class MiningStopped(_Event, tag="stopped", frozen=True, kw_only=True):
    """Mining has stopped."""


class HashRate(_Event, tag="hashrate", frozen=True, kw_only=True):
    """The hash rate, in hashes a second, at this number of threads."""

    hashrate: float
    threads: int


class BlockFound(_Event, tag="block_found", frozen=True, kw_only=True):
    """This node has mined a block."""

    height: int
    hash: str


Blocks = BlockConnected | BlockDisconnected
Transactions = TransactionSeen | TransactionConfirmed | TransactionUnconfirmed | TransactionDropped
Mempool = TransactionAdded | TransactionRemoved | TransactionsMined
Peers = PeerConnected | PeerDisconnected | PeerBanned
Mining = MiningStarted | MiningStopped | HashRate | BlockFound

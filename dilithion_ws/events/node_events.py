"""What the events of a node's four topics look like: contract, and checked when a host publishes.

Names of members are the node's own, as its methods have them. A host may add members; these are the ones that clients can
count on. `kind` tells which of a topic's events it is.
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
    "TransactionRemoved",
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
    """A block has become part of the best chain; its parent was the tip.

    Attributes:
        height: its height.
        hash, previousblockhash: its hash and its parent's, hex.
        time: of its header, Unix seconds.
        tx_count: how many transactions it has.
    """


class BlockDisconnected(_Block, tag="disconnected", frozen=True, kw_only=True):
    """The tip has left the best chain, which ends with its parent now; a reorganisation is several of these, tip first,
    and then `connected` ones."""


class TransactionAdded(_Event, tag="added", frozen=True, kw_only=True):
    """A transaction has come into the mempool.

    Attributes:
        txid: hex.
        size: bytes.
        fee: coins; absent where the host can't tell it.
        sequence: counts all changes of the mempool, as Bitcoin Core's mempool sequence does.
        addresses: those that it pays or spends from, as far as the node knows.
    """

    txid: str
    size: int
    fee: Decimal | None = None
    sequence: int
    addresses: tuple[str, ...] = ()


class TransactionRemoved(_Event, tag="removed", frozen=True, kw_only=True):
    """A transaction has left the mempool; `reason` tells why, `unknown` where the host can't tell. The rest is as in
    `TransactionAdded`."""

    txid: str
    reason: Literal["mined", "replaced", "expired", "conflict", "unknown"]
    size: int
    fee: Decimal | None = None
    sequence: int
    addresses: tuple[str, ...] = ()


class PeerConnected(_Event, tag="connected", frozen=True, kw_only=True):
    """A peer has connected.

    Attributes:
        id: the node's number for it.
        addr: host and port.
        inbound: whether it connected to us.
        peers: how many there are now.
    """

    id: int
    addr: str
    inbound: bool
    peers: int


class PeerDisconnected(_Event, tag="disconnected", frozen=True, kw_only=True):
    """A peer has gone; members as in `PeerConnected`."""

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
Mempool = TransactionAdded | TransactionRemoved
Peers = PeerConnected | PeerDisconnected | PeerBanned
Mining = MiningStarted | MiningStopped | HashRate | BlockFound

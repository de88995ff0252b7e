"""The last known mempool, peers and mining, and the events of what has changed since. No I/O.

Each view can be saved (`state`), restored (`of`), and updated by the events that were published since (`apply`), so a
new leader continues where its predecessor has ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

__all__ = ["MempoolTransaction", "MempoolView", "MinedBlock", "MiningView", "NodeView", "PeersView"]

Event = dict[str, Any]

_MINED_PER_EVENT = 4000
"""Transactions in one event, which must not become too large."""


class MempoolTransaction(NamedTuple):
    """A transaction of the mempool, with fee, addresses and the outputs that it spends if the node reports them."""

    size: int
    fee: Decimal | None = None
    addresses: tuple[str, ...] = ()
    spends: tuple[str, ...] = ()


class MinedBlock(NamedTuple):
    """A block: its transactions without the coinbase, and what is known of those that were never told."""

    height: int
    hash: str
    txids: tuple[str, ...]
    details: Mapping[str, MempoolTransaction] = {}


class MempoolView:
    """The transactions that subscribers know: those of the beginning, and those published since.

    Args:
        known: those of the beginning.
    """

    def __init__(self, known: Mapping[str, MempoolTransaction], sequence: int = 0) -> None:
        self._known = dict(known)
        self._sequence = sequence

    def __len__(self) -> int:
        return len(self._known)

    def addresses(self) -> dict[str, tuple[str, ...]]:
        """Return the known transactions, each with its addresses. For any thread: a dictionary is copied at once."""
        return {txid: one.addresses for txid, one in self._known.copy().items()}

    def state(self) -> Any:
        """Return what is known, as JSON."""
        return {"sequence": self._sequence, "known": {txid: list(one[:3]) for txid, one in self._known.items()}}

    @classmethod
    def of(cls, state: Any) -> MempoolView:
        """Return a view from what `state` returned."""
        known = {txid: _transaction(*one) for txid, one in state["known"].items()}
        return cls(known, state["sequence"])

    def apply(self, event: Event) -> None:
        """Apply a published event."""
        self._sequence = event["sequence"]
        if event["kind"] == "mined":
            for txid in event["txids"]:
                self._known.pop(txid, None)
        elif event["kind"] == "added":
            self._known[event["txid"]] = _transaction(event["size"], event.get("fee"), event.get("addresses", ()))
        else:
            self._known.pop(event["txid"], None)

    def new(self, txids: Iterable[str]) -> list[str]:
        """Return those that are new."""
        return [txid for txid in txids if txid not in self._known]

    def gone(self, txids: set[str]) -> list[str]:
        """Return the known ones that are not among these."""
        return [txid for txid in self._known if txid not in txids]

    def add(self, txid: str, transaction: MempoolTransaction) -> Event:
        """Add a transaction, and return the event."""
        self._known[txid] = transaction
        return self._event("added", txid, transaction)

    def spends_any(self, txid: str, outputs: set[str]) -> bool:
        """Return whether a known transaction spends one of these outputs, as far as that is known."""
        return not outputs.isdisjoint(self._known[txid].spends)

    def remove(self, txid: str, reason: str) -> Event:
        """Remove a transaction, and return the event."""
        return {**self._event("removed", txid, self._known.pop(txid)), "reason": reason}

    def mine(self, block: MinedBlock) -> list[Event]:
        """Remove the transactions of a block, and return the events: one, or several for thousands of transactions."""
        events = []
        for at in range(0, len(block.txids), _MINED_PER_EVENT):
            txids = block.txids[at : at + _MINED_PER_EVENT]
            addresses: dict[str, None] = {}
            unseen = 0
            for txid in txids:
                known = self._known.pop(txid, None) or block.details.get(txid)
                unseen += known is None
                addresses.update(dict.fromkeys(known.addresses if known is not None else ()))
            self._sequence += 1
            event: Event = {"kind": "mined", "height": block.height, "hash": block.hash, "txids": list(txids)}
            event["sequence"] = self._sequence
            if addresses:
                event["addresses"] = list(addresses)
            if unseen:
                event["unseen"] = unseen
            events.append(event)
        return events

    def _event(self, kind: str, txid: str, transaction: MempoolTransaction) -> Event:
        self._sequence += 1
        event = {"kind": kind, "txid": txid, "size": transaction.size, "sequence": self._sequence}
        if transaction.fee is not None:
            event["fee"] = transaction.fee
        if transaction.addresses:
            event["addresses"] = list(transaction.addresses)
        return event


def _transaction(size: int, fee: Any, addresses: Iterable[str]) -> MempoolTransaction:
    return MempoolTransaction(size, None if fee is None else Decimal(str(fee)), tuple(addresses))


class PeersView:
    """The peers, by number and address: after the node's restart another peer has the same number.

    Args:
        known: whether each is inbound, or None before the first poll.
    """

    def __init__(self, known: dict[tuple[int, str], bool] | None = None) -> None:
        self._known = known

    def state(self) -> Any:
        """Return what is known as JSON, or None before the first poll."""
        return None if self._known is None else [[id, addr, inbound] for (id, addr), inbound in self._known.items()]

    @classmethod
    def of(cls, state: Any) -> PeersView:
        """Return a view from what `state` returned."""
        return cls(None if state is None else {(id, addr): inbound for id, addr, inbound in state})

    def apply(self, event: Event) -> None:
        """Apply a published event."""
        if self._known is None:
            self._known = {}
        if event["kind"] == "connected":
            self._known[event["id"], event["addr"]] = event["inbound"]
        elif event["kind"] == "disconnected":
            self._known.pop((event["id"], event["addr"]), None)

    def update(self, peers: Iterable[Mapping[str, Any]]) -> list[Event]:
        """Return the events of what has changed. There are none the first time."""
        now = {(int(peer["id"]), str(peer["addr"]).partition(" ")[0]): bool(peer.get("inbound")) for peer in peers}
        before, self._known = self._known, now
        if before is None:
            return []
        count = len(before)
        events = []
        for kind, these, others, change in (("disconnected", before, now, -1), ("connected", now, before, 1)):
            for (id, address), inbound in these.items():
                if (id, address) not in others:
                    count += change
                    events.append({"kind": kind, "id": id, "addr": address, "inbound": inbound, "peers": count})
        return events


class MiningView:
    """Whether the node mines, and how fast.

    Args:
        known: whether it mines, its hash rate, and its threads; None before the first poll.
    """

    def __init__(self, known: tuple[bool, float, int] | None = None) -> None:
        self._known = known

    def state(self) -> Any:
        """Return what is known as JSON, or None before the first poll."""
        return None if self._known is None else list(self._known)

    @classmethod
    def of(cls, state: Any) -> MiningView:
        """Return a view from what `state` returned."""
        if state is None:
            return cls()
        mines, hashrate, threads = state
        return cls((bool(mines), float(hashrate), int(threads)))

    def apply(self, event: Event) -> None:
        """Apply a published event."""
        _, hashrate, threads = self._known or (False, 0.0, 0)
        if event["kind"] == "stopped":
            self._known = (False, 0.0, 0)
        else:
            self._known = (True, float(event.get("hashrate", hashrate)), int(event.get("threads", threads)))

    def update(self, info: Mapping[str, Any]) -> list[Event]:
        """Return the events of what has changed: none the first time, or if the node does not report whether it mines."""
        if "mining" not in info:
            return []
        now = bool(info["mining"]), float(info.get("hashrate", 0)), int(info.get("threads", 0))
        before, self._known = self._known, now
        if before is None or before == now:
            return []
        if not now[0]:
            return [{"kind": "stopped"}] if before[0] else []
        events: list[Event] = []
        if not before[0]:
            events.append({"kind": "started", "threads": now[2]})
        if now[1] != before[1] or now[2] != before[2]:
            events.append({"kind": "hashrate", "hashrate": now[1], "threads": now[2]})
        return events


class NodeView:
    """The three views.

    Attributes:
        mempool: None if it is not followed, or not yet.
        peers, mining: the other views.
    """

    def __init__(
        self, mempool: MempoolView | None = None, peers: PeersView | None = None, mining: MiningView | None = None
    ) -> None:
        self.mempool = mempool
        self.peers = peers or PeersView()
        self.mining = mining or MiningView()

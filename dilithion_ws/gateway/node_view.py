"""What was last seen of mempool, peers and mining, and the events of what has changed since. No I/O.

Each view can be written down (`state`), made from that again (`of`), and brought up to date by the events that were told
since (`fold`): so that who takes over goes on where another has left off.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

__all__ = ["MempoolView", "MiningView", "PeersView", "MempoolTransaction", "NodeView"]

Event = dict[str, Any]


class MempoolTransaction(NamedTuple):
    """One in the mempool; fee and addresses where the node tells them."""

    size: int
    fee: Decimal | None = None
    addresses: tuple[str, ...] = ()


class MempoolView:
    """The transactions that subscribers know of: those that were there at the beginning, and those told since.

    Args:
        known: those that were there at the beginning.
    """

    def __init__(self, known: Mapping[str, MempoolTransaction], sequence: int = 0) -> None:
        self._known = dict(known)
        self._sequence = sequence

    def __len__(self) -> int:
        return len(self._known)

    def state(self) -> Any:
        """What is known."""
        return {"sequence": self._sequence, "known": {txid: list(one) for txid, one in self._known.items()}}

    @classmethod
    def of(cls, state: Any) -> MempoolView:
        """From `state`."""
        known = {txid: _transaction(*one) for txid, one in state["known"].items()}
        return cls(known, state["sequence"])

    def apply(self, event: Event) -> None:
        """Takes in an event that was told."""
        self._sequence = event["sequence"]
        if event["kind"] == "added":
            self._known[event["txid"]] = _transaction(event["size"], event.get("fee"), event.get("addresses", ()))
        else:
            self._known.pop(event["txid"], None)

    def new(self, txids: Iterable[str]) -> list[str]:
        """Those that have come."""
        return [txid for txid in txids if txid not in self._known]

    def gone(self, txids: set[str]) -> list[str]:
        """Those that have left, where these are the ones that are there."""
        return [txid for txid in self._known if txid not in txids]

    def add(self, txid: str, transaction: MempoolTransaction) -> Event:
        """One has come; the event."""
        self._known[txid] = transaction
        return self._event("added", txid, transaction)

    def remove(self, txid: str, reason: str) -> Event:
        """One has left; the event."""
        return {**self._event("removed", txid, self._known.pop(txid)), "reason": reason}

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
    """The peers, by number and address: after the node's restart another peer has the same number."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, str], bool] | None = None

    def state(self) -> Any:
        """What is known; None before the first look."""
        return None if self._known is None else [[id, addr, inbound] for (id, addr), inbound in self._known.items()]

    @classmethod
    def of(cls, state: Any) -> PeersView:
        """From `state`."""
        peers = cls()
        peers._known = None if state is None else {(id, addr): inbound for id, addr, inbound in state}
        return peers

    def apply(self, event: Event) -> None:
        """Takes in an event that was told."""
        if self._known is None:
            self._known = {}
        if event["kind"] == "connected":
            self._known[event["id"], event["addr"]] = event["inbound"]
        elif event["kind"] == "disconnected":
            self._known.pop((event["id"], event["addr"]), None)

    def update(self, peers: Iterable[Mapping[str, Any]]) -> list[Event]:
        """The events of what has changed; none the first time."""
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
    """Whether the node mines, and how fast."""

    def __init__(self) -> None:
        self._known: tuple[bool, float, int] | None = None

    def state(self) -> Any:
        """What is known; None before the first look."""
        return None if self._known is None else list(self._known)

    @classmethod
    def of(cls, state: Any) -> MiningView:
        """From `state`."""
        mining = cls()
        mining._known = None if state is None else (bool(state[0]), float(state[1]), int(state[2]))
        return mining

    def apply(self, event: Event) -> None:
        """Takes in an event that was told."""
        _, hashrate, threads = self._known or (False, 0.0, 0)
        if event["kind"] == "stopped":
            self._known = (False, 0.0, 0)
        else:
            self._known = (True, float(event.get("hashrate", hashrate)), int(event.get("threads", threads)))

    def update(self, info: Mapping[str, Any]) -> list[Event]:
        """The events of what has changed; none the first time, or where the node does not say whether it mines."""
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
    """All three.

    Attributes:
        mempool: None where it is not followed yet, or not at all.
        peers, mining: as they are.
    """

    def __init__(
        self, mempool: MempoolView | None = None, peers: PeersView | None = None, mining: MiningView | None = None
    ) -> None:
        self.mempool = mempool
        self.peers = peers or PeersView()
        self.mining = mining or MiningView()

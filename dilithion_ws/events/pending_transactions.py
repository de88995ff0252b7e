"""The transactions that wait for a block, as the log of `mempool` and the host know them. No thread and no clock."""

from __future__ import annotations

from collections.abc import Set
from typing import NamedTuple

import msgspec

from ..util.host_code import call_host
from ..util.position import Position
from .block_digest import TransactionHooks
from .log import EventLog, EventsGoneError
from .stream import CHUNK_BYTES

__all__ = ["MempoolChange", "PendingTransactions"]


class MempoolChange(NamedTuple):
    """A transaction that came or went.

    Attributes:
        txid: its id.
        addresses: its addresses, as far as they are known.
        reason: why it went; None if it came. `mined` says that a block has it, `missed` that the event is gone.
    """

    txid: str
    addresses: tuple[str, ...]
    reason: str | None


class _Event(msgspec.Struct):
    kind: str
    txid: str = ""
    txids: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    reason: str = "unknown"


class _Waiting(msgspec.Struct):
    txid: str
    addresses: tuple[str, ...] = ()


_decode = msgspec.json.Decoder(_Event).decode


class PendingTransactions:
    """Finds transactions by id and by address. Not thread-safe: one thread owns it.

    The host lists what waits when this begins; the log has what has changed since. An event may be in both, which is
    harmless: what it says is true already. If the log has dropped events, everything is listed again.

    Args:
        log: of the topic `mempool`.
        hooks: the host's functions; without `pending`, only the log says what waits.
    """

    def __init__(self, log: EventLog, hooks: TransactionHooks) -> None:
        self._log = log
        self._list_all = hooks.pending
        self._read_to: Position | None = None
        self._changes: list[MempoolChange] = []  # not returned yet
        self._addresses: dict[str, tuple[str, ...]] = {}  # by txid
        self._txids: dict[str, set[str]] = {}  # by address

    def __contains__(self, txid: str) -> bool:
        return txid in self._addresses

    def forget(self) -> None:
        """Forget everything, since no client follows. `update` begins again."""
        self._read_to = None
        self._changes.clear()
        self._addresses.clear()
        self._txids.clear()

    def update(self) -> list[MempoolChange]:
        """Read what was published since. Return the changes in order, without those from before the first call.

        Raises what the host raises. Then nothing is lost: the next call returns all of it.
        """
        if self._read_to is None:
            self._start()
        more = True
        while more:
            assert self._read_to is not None
            try:
                entries, more = self._log.read(self._read_to, CHUNK_BYTES)
            except EventsGoneError:
                self._start_again()
                continue
            for entry in entries:
                self._changes += self._apply(_decode(entry.data))
                self._read_to = Position(self._read_to.epoch, entry.seq)
        changes, self._changes = self._changes, []
        return changes

    def mined(self, txids: Set[str]) -> None:
        """Record that a block has transactions, which the log may not say yet."""
        for txid in txids & self._addresses.keys():
            self._remove(txid)

    def matching(self, txids: frozenset[str], addresses: frozenset[str]) -> dict[str, list[str]]:
        """Return the waiting transactions with one of these ids or addresses, each with those addresses that it has."""
        found = set(txids & self._addresses.keys())
        for address in addresses & self._txids.keys():
            found |= self._txids[address]
        return {txid: sorted(addresses.intersection(self._addresses[txid])) for txid in sorted(found)}

    def _start(self) -> None:
        """List what waits. The addresses of some are in the log, or were known before, and not in the list."""
        logged = PendingTransactions(self._log, TransactionHooks(_nothing, None))
        logged._read_log()
        known = {**self._addresses, **logged._addresses}
        waiting = logged._addresses
        if self._list_all is not None:
            listed = [msgspec.convert(one, _Waiting) for one in call_host(self._list_all)]
            waiting = {one.txid: one.addresses or known.get(one.txid, ()) for one in listed}
        self._addresses.clear()
        self._txids.clear()
        for txid, addresses in waiting.items():
            self._add(txid, addresses)
        self._read_to = logged._read_to  # what was published meanwhile is applied once more, which changes nothing

    def _read_log(self) -> None:
        """Apply all that the log has."""
        self._read_to = Position(self._log.position.epoch, self._log.first - 1)
        more = True
        try:
            while more:
                entries, more = self._log.read(self._read_to, CHUNK_BYTES)
                for entry in entries:
                    self._apply(_decode(entry.data))
                    self._read_to = Position(self._read_to.epoch, entry.seq)
        except EventsGoneError:
            self._read_to = self._log.position

    def _start_again(self) -> None:
        """List what waits again, and note what must have changed meanwhile."""
        before = dict(self._addresses)
        self._start()
        self._changes += [MempoolChange(txid, before[txid], "missed") for txid in before if txid not in self._addresses]
        self._changes += [
            MempoolChange(txid, found, None) for txid, found in self._addresses.items() if txid not in before
        ]

    def _apply(self, event: _Event) -> list[MempoolChange]:
        if event.kind == "added":
            self._add(event.txid, event.addresses)
            return [MempoolChange(event.txid, event.addresses, None)]
        if event.kind == "mined":
            return [MempoolChange(txid, self._remove(txid), "mined") for txid in event.txids]
        known = self._remove(event.txid)
        return [MempoolChange(event.txid, event.addresses or known, event.reason)]

    def _add(self, txid: str, addresses: tuple[str, ...]) -> None:
        self._remove(txid)
        self._addresses[txid] = addresses
        for address in addresses:
            self._txids.setdefault(address, set()).add(txid)

    def _remove(self, txid: str) -> tuple[str, ...]:
        addresses = self._addresses.pop(txid, ())
        for address in addresses:
            found = self._txids.get(address, set())
            found.discard(txid)
            if not found:
                self._txids.pop(address, None)
        return addresses


def _nothing(hash: str) -> tuple[()]:
    return ()

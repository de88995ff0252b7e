"""What a block has for those who follow transactions: its transactions by id and by address. No thread and no clock."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Set
from typing import Any, NamedTuple

import msgspec

from ..errors import EventError
from ..util.host_code import call_host
from .chain_history import ChainHistory, ChainPoint

__all__ = ["BlockDigest", "BlockDigests", "TransactionHooks"]

_OVERHEAD = 200
"""Bytes that Python needs for an entry, in addition to its text."""


class TransactionHooks(NamedTuple):
    """What the host provides. See `WebSocketServer.transactions`."""

    read: Callable[[str], Iterable[Mapping[str, Any]]]
    pending: Callable[[], Iterable[Mapping[str, Any]]] | None


class _Transaction(msgspec.Struct):
    txid: str
    addresses: list[str] = []


class BlockDigest:
    """The transactions of one block.

    Args:
        transactions: as the host has them: each with `txid` and `addresses`.

    Attributes:
        size: about the bytes that it takes.
    """

    def __init__(self, transactions: Iterable[Mapping[str, Any]]) -> None:
        self._txids: dict[str, frozenset[str]] = {}
        self._addresses: dict[str, list[str]] = {}
        self.size = _OVERHEAD
        for one in transactions:
            try:
                found = msgspec.convert(one, _Transaction)
            except msgspec.ValidationError as error:
                raise EventError(f"the host's transaction has no txid or addresses: {error}") from None
            self._txids[found.txid] = frozenset(found.addresses)
            for address in found.addresses:
                self._addresses.setdefault(address, []).append(found.txid)
            self.size += _OVERHEAD + len(found.txid) + sum(_OVERHEAD + len(address) for address in found.addresses)

    @property
    def txids(self) -> Set[str]:
        """The ids of all transactions."""
        return self._txids.keys()

    @property
    def keys(self) -> Iterable[str]:
        """All ids and addresses."""
        yield from self._txids
        yield from self._addresses

    def matching(self, txids: frozenset[str], addresses: frozenset[str]) -> dict[str, list[str]]:
        """Return the transactions with one of these ids or addresses, each with those of the addresses that it has."""
        found = set(txids & self._txids.keys())
        for address in addresses & self._addresses.keys():
            found.update(self._addresses[address])
        return {txid: sorted(self._txids[txid] & addresses) for txid in sorted(found)}


class BlockDigests:
    """Digests of blocks, read from the host and kept. Not thread-safe: one thread owns it.

    Args:
        hooks: the host's functions.
        history: the chain.
        size: bytes that are kept.
    """

    def __init__(self, hooks: TransactionHooks, history: ChainHistory, size: int) -> None:
        self._read = hooks.read
        self._history = history
        self._most = size
        self._kept: OrderedDict[ChainPoint, BlockDigest] = OrderedDict()
        self._size = 0

    def __contains__(self, block: ChainPoint) -> bool:
        return block in self._kept

    def of(self, block: ChainPoint) -> BlockDigest:
        """Return the digest of a block. Raise what the host raises."""
        digest = self._kept.get(block)
        if digest is not None:
            self._kept.move_to_end(block)
            return digest
        digest = self._kept[block] = BlockDigest(call_host(self._read, block.hash))
        self._size += digest.size
        while self._size > self._most and len(self._kept) > 1:
            _, dropped = self._kept.popitem(last=False)
            self._size -= dropped.size
        return digest

    def is_mined(self, txid: str) -> bool:
        """Return whether a block of the best chain has a transaction, as far as it is kept."""
        found = [block for block, digest in self._kept.items() if txid in digest.txids]
        return any(self._history.is_on_chain(block) for block in found)

"""One subscription to `transactions`: which transactions it follows, and what blocks say about them. No I/O.

    follow = Follow(cursor, keys)
    follow.apply(step, digest) -> the message about a block that was connected or disconnected

A followed transaction is reported when it is seen in the mempool, at each confirmation up to the number that the client
has asked for, when its block is disconnected, and when it leaves the mempool without a block. What is kept is little:
the transactions that still count confirmations. All else is found again in the blocks.

The events of a block are one message, an array, so that a client has all of them or none. The last one states where to
resume after it; the ones before it state where the client was before. So a program that stores the place after each event
that it has dealt with may repeat events after a crash, and loses none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from ..errors import JsonRpcCode, RpcError
from ..util.json import encode_json
from .block_digest import BlockDigest
from .chain_history import ChainPoint, HistoryStep
from .cursor import Cursor

__all__ = ["KEPT_DEEPER", "Follow", "FollowKeys"]

_CONFIRMATIONS = 6
"""Confirmations that are reported if the client does not ask for a number."""
KEPT_DEEPER = 6
"""Blocks for which a transaction is remembered beyond its last confirmation, to count again after a reorganisation."""


class FollowKeys(NamedTuple):
    """What a subscription follows.

    Attributes:
        txids, addresses: these, of which one is empty.
        confirmations: how many are reported of each transaction.
    """

    txids: frozenset[str]
    addresses: frozenset[str]
    confirmations: int

    @classmethod
    def of(cls, wanted: Mapping[str, Any] | None, most: int) -> FollowKeys:
        """Return what a filter asks for.

        Args:
            wanted: the filter, whose members and types are checked already.
            most: confirmations at most.

        Raises:
            RpcError: -32602, with what is accepted.
        """
        given = dict(wanted or {})
        confirmations = given.pop("confirmations", min(_CONFIRMATIONS, most))
        if len(given) != 1:
            raise _invalid("topic transactions takes a filter by `txid` or by `address`")
        if not isinstance(confirmations, int) or isinstance(confirmations, bool) or not 1 <= confirmations <= most:
            limit = f"limit of {most} (rpcwebsocketfollowconfirmations)"
            raise _invalid(f"filter member confirmations takes a number from 1 to the {limit}")
        ((name, values),) = given.items()
        keys = frozenset(values if isinstance(values, list) else [values])
        if not all(isinstance(key, str) for key in keys):
            raise _invalid(f"filter member {name} takes a string, or a list of strings")
        nothing: frozenset[str] = frozenset()
        return cls(keys, nothing, confirmations) if name == "txid" else cls(nothing, keys, confirmations)

    def all(self) -> frozenset[str]:
        """Return ids and addresses together."""
        return self.txids or self.addresses


class Follow:
    """One subscription.

    Args:
        cursor: the subscription, which stays pending in its shard.
        keys: what it follows.

    Attributes:
        point: the block up to which everything was reported.
        recent: by height: the hash of a block, and the followed transactions that it has.
        known_from: the height from which on `recent` is complete.
    """

    def __init__(self, cursor: Cursor, keys: FollowKeys) -> None:
        self.cursor = cursor
        self.keys = keys
        self.point = ChainPoint(-1, "")
        self.recent: dict[int, tuple[str, dict[str, list[str]]]] = {}
        self.known_from = 0

    @property
    def depth(self) -> int:
        """How many blocks, counted from the tip, are needed to report the next one."""
        return self.keys.confirmations + KEPT_DEEPER - 1

    def remember(self, block: ChainPoint, digest: BlockDigest) -> None:
        """Find the followed transactions of a block that the client knows already."""
        found = digest.matching(self.keys.txids, self.keys.addresses)
        if found:
            self.recent[block.height] = (block.hash, found)

    def begin_scan(self) -> None:
        """Forget what blocks have, since they are searched again."""
        self.recent.clear()
        self.known_from = max(0, self.point.height - self.depth)

    def lacks_blocks(self, block: ChainPoint) -> bool:
        """Return whether blocks must be searched before this one is connected: after a deep reorganisation."""
        return self.known_from > max(0, block.height - self.keys.confirmations + 1)

    def is_confirmed(self, txid: str) -> bool:
        """Return whether a block has a transaction, as far as it is remembered."""
        return any(txid in found for _, found in self.recent.values())

    def state(self, before: ChainPoint | None) -> bytes:
        """Return the message for a client that knows nothing yet: the confirmations of what recent blocks have.

        `before` is where it resumes until it has all of them.
        """
        return self._messages([self._confirmed(height, txid) for height, txid in self._counting()], before)

    def apply(self, step: HistoryStep, digest: BlockDigest | None) -> bytes:
        """Return the message for a block that was connected or disconnected, empty if there is nothing to say.

        Args:
            step: what happens to the block.
            digest: its transactions; None if it is known that none of them is followed.
        """
        if step.connected:
            return self._connect(step.block, digest)
        return b"" if digest is None else self._disconnect(step.block, step.after, digest)

    def _connect(self, block: ChainPoint, digest: BlockDigest | None) -> bytes:
        before, self.point = self.point, block
        self.known_from = max(self.known_from, block.height - self.depth)
        for height in [height for height in self.recent if height < self.known_from]:
            del self.recent[height]
        if digest is not None:
            self.remember(block, digest)
        return self._messages([self._confirmed(height, txid) for height, txid in self._counting()], before)

    def _disconnect(self, block: ChainPoint, parent: ChainPoint, digest: BlockDigest) -> bytes:
        before, self.point = self.point, parent
        self.recent.pop(block.height, None)
        found = digest.matching(self.keys.txids, self.keys.addresses)
        events = [
            self._event("unconfirmed", txid, mine, height=block.height, hash=block.hash) for txid, mine in found.items()
        ]
        return self._messages(events, before)

    def seen(self, found: Mapping[str, list[str]]) -> bytes:
        """Return the message that transactions, each with its followed addresses, wait in the mempool.

        Those that a block has are left out: what is known of the mempool may be older than the block.
        """
        waiting = [(txid, mine) for txid, mine in found.items() if not self.is_confirmed(txid)]
        events = [self._event("seen", txid, mine, confirmations=0) for txid, mine in waiting]
        return self._messages(events, self.point)

    def dropped(self, txid: str, addresses: list[str], reason: str) -> bytes:
        """Return the message that a transaction has left the mempool without a block."""
        return self._messages([self._event("dropped", txid, addresses, reason=reason)], self.point)

    def _counting(self) -> list[tuple[int, str]]:
        """Return height and id of each transaction that counts confirmations at the present tip, oldest block first."""
        return [
            (height, txid)
            for height in sorted(self.recent)
            for txid in self.recent[height][1]
            if self.point.height - height < self.keys.confirmations
        ]

    def _confirmed(self, height: int, txid: str) -> dict[str, Any]:
        hash, found = self.recent[height]
        confirmations = self.point.height - height + 1
        return self._event("confirmed", txid, found[txid], height=height, hash=hash, confirmations=confirmations)

    def _event(self, kind: str, txid: str, addresses: list[str], **more: Any) -> dict[str, Any]:
        event = {"kind": kind, "txid": txid, **more}
        return {**event, "addresses": addresses} if addresses else event

    def _messages(self, events: list[dict[str, Any]], before: ChainPoint | None) -> bytes:
        """Return events as one message. Until the last one, the client resumes where it was before."""
        last = len(events) - 1
        texts = []
        for index, event in enumerate(events):
            place = self.point if index == last else before
            since = b"" if place is None else b'"since":%b,' % encode_json(place.as_since())
            texts.append(self.cursor.stream.message(since, encode_json(event)))
        return texts[0] if last == 0 else b"[%b]" % b",".join(texts) if texts else b""


def _invalid(text: str) -> RpcError:
    return RpcError(JsonRpcCode.INVALID_PARAMS, f"Invalid params: {text}")

"""One subscription to `transactions`: which transactions it follows, and what blocks say about them. No I/O.

    follow = Follow(cursor, keys)
    follow.connect(block, digest)    -> events of a block that was connected
    follow.disconnect(block, digest) -> events of a block that was disconnected

A followed transaction is reported when it is seen in the mempool, at each confirmation up to the number that the client
has asked for, when its block is disconnected, and when it leaves the mempool without a block. What is kept is little:
the transactions that still count confirmations. All else is found again in the blocks.

Each event states where to resume after it: the block up to which the client knows everything. Behind an event that is
not the last one of its block, that is the same block with the number of the event, from 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from ..errors import JsonRpcCode, RpcError
from ..util.json import encode_json
from .block_digest import BlockDigest
from .chain_history import ChainPoint
from .cursor import Cursor

__all__ = ["Follow", "FollowKeys", "Resume"]

_CONFIRMATIONS = 6
"""Confirmations that are reported if the client does not ask for a number."""
_KEPT_DEEPER = 6
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


class Resume(NamedTuple):
    """Where a client resumes: after a block, or after the event with this number of it."""

    point: ChainPoint
    event: int | None = None

    def as_json(self) -> dict[str, Any]:
        """Return it as `since` takes it."""
        found: dict[str, Any] = {"height": self.point.height, "hash": self.point.hash}
        return found if self.event is None else {**found, "event": self.event}


class Follow:
    """One subscription.

    Args:
        cursor: the subscription, which stays pending in its shard.
        keys: what it follows.

    Attributes:
        point: the block up to which everything was reported.
        recent: by height: the hash of a block, and the followed transactions that it has.
    """

    def __init__(self, cursor: Cursor, keys: FollowKeys) -> None:
        self.cursor = cursor
        self.keys = keys
        self.point = ChainPoint(-1, "")
        self.recent: dict[int, tuple[str, dict[str, list[str]]]] = {}

    @property
    def depth(self) -> int:
        """How many blocks, counted from the tip, are needed to report the next one."""
        return self.keys.confirmations + _KEPT_DEEPER - 1

    def resume(self) -> Resume:
        """Return where a client resumes that has all events so far."""
        return Resume(self.point)

    def remember(self, block: ChainPoint, digest: BlockDigest) -> None:
        """Find the followed transactions of a block that the client knows already."""
        found = digest.matching(self.keys.txids, self.keys.addresses)
        if found:
            self.recent[block.height] = (block.hash, found)

    def is_confirmed(self, txid: str) -> bool:
        """Return whether a block has a transaction, as far as it is remembered."""
        return any(txid in found for _, found in self.recent.values())

    def state(self) -> list[bytes]:
        """Return the messages for a client that knows nothing yet: the confirmations of what recent blocks have."""
        events = [self._confirmed(height, txid) for height, txid in self._counting()]
        return [self._message(event, Resume(self.point)) for event in events]

    def connect(self, block: ChainPoint, digest: BlockDigest | None, skip: int = 0) -> list[bytes]:
        """Return the messages for a block that was connected.

        Args:
            block: the block.
            digest: its transactions; None if it is known that none of them is followed.
            skip: events that the client has already.
        """
        self.point = block
        for height in [height for height in self.recent if block.height - height > self.depth]:
            del self.recent[height]
        if digest is not None:
            self.remember(block, digest)
        events = [self._confirmed(height, txid) for height, txid in self._counting()]
        last = len(events) - 1
        return [
            self._message(event, Resume(block, None if index == last else index))
            for index, event in enumerate(events)
            if index >= skip
        ]

    def disconnect(self, block: ChainPoint, parent: ChainPoint, digest: BlockDigest) -> list[bytes]:
        """Return the messages for a block that was disconnected. All but the last one may come again after a resume."""
        self.point = parent
        self.recent.pop(block.height, None)
        found = digest.matching(self.keys.txids, self.keys.addresses)
        events = [
            self._event("unconfirmed", txid, mine, height=block.height, hash=block.hash) for txid, mine in found.items()
        ]
        last = len(events) - 1
        return [self._message(event, Resume(parent if index == last else block)) for index, event in enumerate(events)]

    def seen(self, txid: str, addresses: list[str]) -> bytes:
        """Return the message that a transaction waits in the mempool."""
        return self._message(self._event("seen", txid, addresses, confirmations=0), Resume(self.point))

    def dropped(self, txid: str, addresses: list[str], reason: str) -> bytes:
        """Return the message that a transaction has left the mempool without a block."""
        return self._message(self._event("dropped", txid, addresses, reason=reason), Resume(self.point))

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

    def _message(self, event: dict[str, Any], resume: Resume) -> bytes:
        return self.cursor.stream.message(b'"since":%b,' % encode_json(resume.as_json()), encode_json(event))


def _invalid(text: str) -> RpcError:
    return RpcError(JsonRpcCode.INVALID_PARAMS, f"Invalid params: {text}")

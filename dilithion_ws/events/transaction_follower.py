"""Subscriptions to `transactions`: each follows some transactions or addresses through mempool and blocks.

    state       meaning                                                        next
    RESOLVING   its first read is outstanding, and with it the reply           WAITING, or over
    WAITING     the reply is on its way                                        SCANNING
    SCANNING    the blocks before its own are searched, newest first           BEHIND
    BEHIND      the blocks after its own are reported, some at a turn          LIVE, or over
    LIVE        it is at the follower's own block, and shares its work         over

All that are LIVE are at one block, the follower's. For them an index of ids and addresses finds those that a block or a
transaction concerns, so an event costs what it has to tell, however many follow something else. Those that are BEHIND
read the chain by themselves, with blocks that are kept for all.

What a client does not accept waits, in order, for all of its subscriptions together. One that finds no room there ends
with an error, and its client resumes where its last event says.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Any

from ..config.limits import Limits, limit_reached
from ..errors import JsonRpcCode, RpcError
from ..util.enums import OfferResult
from ..util.futures import settle_future
from ..util.thread_contracts import any_thread
from .block_digest import BlockDigest, BlockDigests, TransactionHooks
from .chain_feed import TURNS, ChainFeed, Progress, ended_before_reply
from .chain_history import ChainPoint, HistoryGapError, HistoryStep
from .cursor import Cursor, EndOfStream
from .follow import Follow, FollowKeys
from .follow_task import BEHIND, LIVE, RESOLVING, SCANNING, WAITING, FollowTask, SinceBlock
from .log import EventLog
from .pending_transactions import MempoolChange, PendingTransactions

__all__ = ["TransactionFollower"]

logger = logging.getLogger("dilithion_ws.events")

SENT, BUFFERED, REJECTED, CLOSED = OfferResult

_RETRY_MS = 1000
_STEPS = 5
"""Blocks that are reported at a turn."""


class _Backlog:
    """What one client has not accepted yet, and its subscriptions that wait for that."""

    def __init__(self) -> None:
        self.frames: list[tuple[FollowTask, bytes]] = []
        self.size = 0
        self.paused: list[FollowTask] = []


class TransactionFollower:
    """Serves the subscriptions to `transactions`.

    Args:
        feed: the chain.
        hooks: the host's functions.
        mempool: the log of the topic `mempool`.
        limits: bounds.
    """

    def __init__(self, feed: ChainFeed, hooks: TransactionHooks, mempool: EventLog, limits: Limits) -> None:
        self._feed = feed
        self._history = feed.history
        self._digests = BlockDigests(hooks, limits.events.follow_cache)
        self._pending = PendingTransactions(mempool, hooks)
        self._limits = limits
        self._tasks: dict[Cursor, FollowTask] = {}  # all whose reply was queued
        self._counts: Counter[int] = Counter()  # of those, by the subscriber's id
        self._resolving: deque[FollowTask] = deque()
        self._turns: deque[FollowTask] = deque()
        self._parked: list[FollowTask] = []  # have all of the chain, which the follower has not
        self._point: ChainPoint | None = None  # of all that are live
        self._lags = False
        self._live: dict[str, set[FollowTask]] = {}  # by id or address
        self._counting: set[FollowTask] = set()  # live ones with confirmations to come
        self._backlogs: dict[int, _Backlog] = {}  # by the subscriber's id
        self._has_failed = False

    # From any thread

    @any_thread
    def begin(self, cursor: Cursor, since: SinceBlock | None, reply: dict[str, Any]) -> FollowTask:
        """Begin with a pending cursor. `answer` of the result gets the reply. Call `start` once that was queued.

        Raises:
            RpcError: -32602, the filter is not one for transactions.
        """
        given = cursor.stream.filter
        keys = FollowKeys.of(None if given is None else given.wanted, self._limits.events.follow_confirmations)
        named = {name: reply[name] for name in ("subscription", "topic")}
        task = FollowTask(Follow(cursor, keys), since, named, self)
        self._feed.begin(lambda: self._resolving.append(task))
        return task

    @any_thread
    def start(self, task: FollowTask) -> None:
        """Send, since the reply was queued."""
        self._feed.post(lambda: self._start(task))

    # The stepping thread

    def on_writable(self, subscriber_id: int) -> None:
        """Send what waits for a client that accepts data again."""
        backlog = self._backlogs.pop(subscriber_id, None)
        if backlog is None:
            return
        for task, data in backlog.frames:
            self._offer(task, data)
        again = self._backlogs.get(subscriber_id)
        (self._turns if again is None else again.paused).extend(backlog.paused)

    def on_ended(self, cursors: Iterable[Cursor]) -> None:
        """Forget subscriptions that have ended."""
        for cursor in cursors:
            task = self._tasks.pop(cursor, None)
            if task is None:
                continue
            self._remove(task)
            id = cursor.subscriber.id
            self._counts[id] -= 1
            if not self._counts[id]:
                del self._counts[id]
                self._backlogs.pop(id, None)

    def on_end(self, cursor: Cursor) -> None:
        """Let the shard send the error that ends a subscription."""
        if cursor in self._tasks:
            self.on_ended([cursor])
            self._feed.activate(cursor)

    def step(self, looked: bool) -> Progress:
        """Report what is new to all that are live, and serve some of the others."""
        failed = not self._guarded(lambda: self._step_live(looked))
        if looked:
            self._turns += self._parked
            self._parked = []
        for queue, serve in ((self._resolving, self._resolve), (self._turns, self._serve)):
            for _ in range(min(len(queue), TURNS)):
                task = queue.popleft()
                if task.follow.cursor.ended:
                    settle_future(task.answer, ended_before_reply())
                else:
                    failed |= not self._try(serve, task)
        self._has_failed = failed
        watches = bool(self._tasks or self._resolving)
        if not watches:
            self._point, self._lags = None, False
            self._backlogs.clear()
            self._pending.forget()
        return Progress(bool(self._resolving or self._turns or (self._lags and not failed)), watches)

    def _guarded(self, work: Callable[[], None]) -> bool:
        """Do something that may fail because the host does. Return False then, so that it is tried again later."""
        try:
            work()
        except HistoryGapError as gap:
            self._end_live(gap)
        except Exception as error:
            self._log_failure(error)
            return False
        return True

    def _log_failure(self, error: Exception) -> None:
        if not self._has_failed:
            logger.warning("the chain can't be read for clients that follow transactions: %s", error)

    def _try(self, serve: Callable[[FollowTask], None], task: FollowTask) -> bool:
        try:
            serve(task)
        except HistoryGapError as gap:
            self._end(task, str(gap), gap.reason)
        except Exception as error:
            self._log_failure(error)
            if task.state is RESOLVING:
                text = f"Server busy: the chain can't be read: {error}"
                settle_future(task.answer, RpcError(JsonRpcCode.SERVER_BUSY, text, {"retry_after_ms": _RETRY_MS}))
            else:
                self._parked.append(task)
            return False
        return True

    # Those that are not live yet

    def _resolve(self, task: FollowTask) -> None:
        """Find where a client begins, and reply."""
        reply = task.reply
        try:
            task.follow.point = self._first_point(task)
            if task.since is not None:
                reply = {**reply, "recovered": True}
        except HistoryGapError as gap:
            task.since, task.skip = None, 0
            task.follow.point = self._history.tip(self._feed.index.tip)
            reply = {**reply, "recovered": False, "reason": gap.reason, "detail": str(gap)}
        task.scan = task.follow.point
        task.transition(WAITING)
        settle_future(task.answer, {**reply, "since": task.follow.resume().as_json()})

    def _first_point(self, task: FollowTask) -> ChainPoint:
        since = task.since
        if since is None:
            return self._history.tip(self._feed.index.tip)
        point = self._history.start(since.height, since.hash)
        self._history.check(point)  # a branch that is not known is refused by the reply
        if since.event is not None and self._history.is_on_chain(point):
            task.skip = since.event + 1
            return self._history.parent_of(point)
        return point

    def _start(self, task: FollowTask) -> None:
        cursor = task.follow.cursor
        if cursor.ended:
            return
        if cursor.end is not None:
            self._feed.activate(cursor)
            return
        self._tasks[cursor] = task
        self._counts[cursor.subscriber.id] += 1
        task.transition(SCANNING)
        self._turns.append(task)

    def _serve(self, task: FollowTask) -> None:
        if task.state is SCANNING:
            self._scan(task)
        else:
            self._catch_up(task)

    def _scan(self, task: FollowTask) -> None:
        """Search the next block of those whose transactions still count confirmations."""
        follow, block = task.follow, task.scan
        if block is None or block.height < 0 or follow.point.height - block.height > follow.depth:
            task.transition(BEHIND)
            if task.since is None:
                self._send(task, follow.state())
        else:
            follow.remember(block, self._digests.of(block.hash))
            task.scan = self._history.parent_of(block)
        self._continue(task)

    def _catch_up(self, task: FollowTask) -> None:
        """Report the next blocks, or let the subscription become live."""
        follow = task.follow
        steps = self._history.steps_after(follow.point)
        for step in steps[:_STEPS]:
            messages = self._messages(follow, step, task.skip)
            task.skip = 0
            self._send(task, messages)
        if steps:
            self._continue(task)
            return
        if self._point is None:
            self._point = follow.point
        if follow.point != self._point:
            self._parked.append(task)
            return
        self._report_changes()  # to those that are live already
        self._add(task)
        self._send(task, self._seen(follow))

    def _seen(self, follow: Follow, within: BlockDigest | None = None) -> list[bytes]:
        """Return the messages for what waits in the mempool, perhaps only for what was in a block, too."""
        found = self._pending.matching(follow.keys.txids, follow.keys.addresses)
        return [
            follow.seen(txid, mine)
            for txid, mine in found.items()
            if not follow.is_confirmed(txid) and (within is None or txid in within)
        ]

    def _messages(self, follow: Follow, step: HistoryStep, skip: int = 0) -> list[bytes]:
        digest = self._digests.of(step.block.hash)
        if step.connected:
            return follow.connect(step.block, digest, skip)
        return follow.disconnect(step.block, step.after, digest)

    def _continue(self, task: FollowTask) -> None:
        """Give a subscription its next turn, once its client accepts data."""
        backlog = self._backlogs.get(task.follow.cursor.subscriber.id)
        (self._turns if backlog is None else backlog.paused).append(task)

    # Those that are live

    def _step_live(self, looked: bool) -> None:
        if self._point is None:
            return
        missed = self._report_changes()
        if looked or self._lags:
            self._lags = False
            steps = self._history.steps_after(self._point)
            for step in steps[:_STEPS]:
                self._report_block(step)
            self._lags = bool(steps)
        for change in missed:
            self._report_change(change._replace(reason="unknown"))

    def _report_changes(self) -> list[MempoolChange]:
        """Report what came to the mempool and left it. Return what left it unnoticed: a block may have it."""
        missed = []
        for change in self._pending.update():
            if change.reason == "missed":
                missed.append(change)
            elif change.reason != "mined":
                self._report_change(change)
        return missed

    def _report_change(self, change: MempoolChange) -> None:
        for task in self._concerned([change.txid, *change.addresses]):
            follow = task.follow
            if follow.is_confirmed(change.txid):
                continue
            assert self._point is not None
            follow.point = self._point
            mine = [address for address in change.addresses if address in follow.keys.addresses]
            if change.reason is None:
                self._send(task, [follow.seen(change.txid, mine)])
            else:
                self._send(task, [follow.dropped(change.txid, mine, change.reason)])

    def _report_block(self, step: HistoryStep) -> None:
        digest = self._digests.of(step.block.hash)
        concerned = self._concerned(digest.keys)
        for task in concerned if not step.connected else [*concerned, *(self._counting - set(concerned))]:
            follow = task.follow
            if step.connected:
                messages = follow.connect(step.block, digest if task in concerned else None)
            else:
                messages = follow.disconnect(step.block, step.after, digest)
                messages += self._seen(
                    follow, digest
                )  # what has returned already was not reported while it had a block
            self._send(task, messages)
            (self._counting.add if follow.recent else self._counting.discard)(task)
        self._point = step.after

    def _concerned(self, keys: Iterable[str]) -> dict[FollowTask, None]:
        """Return the live subscriptions to any of these ids and addresses, in a fixed order."""
        return {task: None for key in keys for task in self._live.get(key, ())}

    def _add(self, task: FollowTask) -> None:
        task.transition(LIVE)
        for key in task.follow.keys.all():
            self._live.setdefault(key, set()).add(task)
        if task.follow.recent:
            self._counting.add(task)

    def _remove(self, task: FollowTask) -> None:
        if task.state is not LIVE:
            return
        self._counting.discard(task)
        for key in task.follow.keys.all():
            found = self._live[key]
            found.discard(task)
            if not found:
                del self._live[key]

    def _end_live(self, gap: HistoryGapError) -> None:
        for task in [task for task in self._tasks.values() if task.state is LIVE]:
            self._end(task, str(gap), gap.reason)
        self._point, self._lags = None, False

    def _end(self, task: FollowTask, text: str, reason: str) -> None:
        """End a subscription by an error."""
        task.follow.cursor.end = EndOfStream(JsonRpcCode.EVENTS_LOST, text, {"reason": reason})
        self.on_end(task.follow.cursor)

    # Sending

    def _send(self, task: FollowTask, messages: list[bytes]) -> None:
        if messages:
            encoder = task.follow.cursor.subscriber.encoder
            self._offer(task, b"".join([encoder.encode(message) for message in messages]))

    def _offer(self, task: FollowTask, data: bytes) -> None:
        """Send frames, or let them wait behind those that wait already."""
        cursor = task.follow.cursor
        backlog = self._backlogs.get(cursor.subscriber.id)
        if backlog is None:
            result = cursor.subscriber.try_send(data, cursor)
            if result not in (BUFFERED, REJECTED):
                return
            backlog = self._backlogs[cursor.subscriber.id] = _Backlog()
            if result is BUFFERED:
                return
        if backlog.size + len(data) > self._limits.events.follow_backlog:
            text = f"you read too slowly: past the {limit_reached(self._limits, 'follow_backlog')}"
            self._end(task, text, "slow")
        elif not cursor.ended:
            backlog.frames.append((task, data))
            backlog.size += len(data)

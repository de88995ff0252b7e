"""Subscriptions to `transactions`: each follows some transactions or addresses through mempool and blocks.

    state       meaning                                                        next
    RESOLVING   its first read is outstanding, and with it the reply           WAITING, or over
    WAITING     the reply is on its way                                        SCANNING
    SCANNING    the blocks before its own are searched, newest first           BEHIND
    BEHIND      the blocks after its own are reported, some at a turn          LIVE, SCANNING, or over
    LIVE        it is at the follower's own block, and shares its work         SCANNING, or over

All that are LIVE are at one block, the follower's, and an index of ids and addresses finds those that an event concerns:
it costs what it has to tell. Those that are BEHIND read the chain by themselves, with blocks that are kept for all.

Whatever may take long is done in pieces: a block that concerns thousands is reported to some of them, and the other
clients of the feed have their turn, before it goes on. Clients with few subscriptions come first.

What a client does not accept waits, in order, for all of its subscriptions together. One that finds no room ends.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from ..config.limits import Limits, limit_reached
from ..errors import JsonRpcCode
from ..util.futures import settle_future
from ..util.thread_contracts import any_thread, owner_only
from .block_digest import BlockDigest, BlockDigests, TransactionHooks
from .chain_feed import ChainFeed, Progress, chain_is_unreadable, ended_before_reply
from .chain_history import ChainPoint, HistoryGapError, HistoryStep
from .cursor import Cursor, EndOfStream
from .follow import KEPT_DEEPER, Follow, FollowKeys
from .follow_backlogs import Backlogs
from .follow_index import FollowIndex
from .follow_task import BEHIND, LIVE, RESOLVING, SCANNING, WAITING, FollowTask, SinceBlock
from .log import EventLog
from .pending_transactions import MempoolChange, PendingTransactions

__all__ = ["TransactionFollower"]

logger = logging.getLogger("dilithion_ws.events")

_PATIENCE = 30.0
"""Seconds for which a block is tried before the subscriptions that wait for it end with an error."""


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
        self._digests = BlockDigests(hooks, feed.history, limits.events.follow_cache)
        self._pending = PendingTransactions(mempool, hooks)
        self._limits = limits
        self._tasks: dict[Cursor, FollowTask] = {}  # all whose reply was queued
        self._counts: Counter[int] = Counter()  # of those, by the subscriber's id
        self._resolving: deque[FollowTask] = deque()
        self._turns: deque[FollowTask] = deque()
        self._parked: list[FollowTask] = []  # wait for the follower, or for the host to answer again
        self._point: ChainPoint | None = None  # of all that are live
        self._highest = -1  # that it has been at
        self._work: Iterator[None] | None = None  # the rest of a block that is being reported
        self._missed: list[MempoolChange] = []
        self._live = FollowIndex()
        self._backlogs = Backlogs(limits.events.follow_backlog)
        self._must_look = False
        self._has_failed = False
        self._failed_at: float | None = None  # since when the next block cannot be read for those that are live

    # From any thread

    @any_thread
    def begin(self, cursor: Cursor, since: SinceBlock | None, reply: Mapping[str, Any]) -> FollowTask:
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

    @owner_only
    def on_writable(self, subscriber_id: int) -> None:
        """Send what waits for a client that accepts data again."""
        frames, paused = self._backlogs.take(subscriber_id)
        for task, data in frames:
            self._offer(task, data)
        for task in paused:
            self._continue(task)

    @owner_only
    def on_ended(self, cursors: Iterable[Cursor]) -> None:
        """Forget subscriptions that have ended."""
        for cursor in cursors:
            task = self._tasks.pop(cursor, None)
            if task is None:
                continue
            self._live.remove(task)
            id = cursor.subscriber.id
            self._counts[id] -= 1
            if not self._counts[id]:
                del self._counts[id]
                self._backlogs.take(id)

    @owner_only
    def on_end(self, cursor: Cursor) -> None:
        """Let the shard send the error that ends a subscription."""
        if cursor in self._tasks:
            self.on_ended([cursor])
            self._feed.activate(cursor)

    @owner_only
    def step(self, looked: bool) -> Progress:
        """Report what is new to all that are live, and serve some of the others."""
        failed = not self._step_live(looked)
        if looked:
            self._turns += self._parked
            self._parked = []
        for queue, serve in ((self._resolving, self._resolve), (self._turns, self._go_on)):
            for index in range(len(queue)):
                if index and not self._feed.has_time:
                    break  # each queue has a turn at least, whatever the others take
                task = queue.popleft()
                if task.is_over:
                    settle_future(task.answer, ended_before_reply())
                else:
                    failed |= not self._try(serve, task)
        self._has_failed = failed
        watches = bool(self._tasks or self._resolving)
        if not watches:
            self._point, self._work, self._missed, self._failed_at = None, None, [], None
            self._backlogs.clear()
            self._pending.forget()
        lags = self._point is not None and self._point != self._feed.index.tip
        return Progress(
            more=bool(self._resolving or self._turns or self._work is not None),
            watches=watches,
            looks=bool(failed or self._parked or self._missed or lags),
        )

    def _try(self, serve: Callable[[FollowTask], None], task: FollowTask) -> bool:
        try:
            serve(task)
            task.failed_at = None
        except HistoryGapError as gap:
            self._end(task, str(gap), gap.reason)
        except Exception as error:
            task.failed_at, is_over = self._failed(error, task.failed_at)
            if task.state is RESOLVING:
                settle_future(task.answer, chain_is_unreadable(error))
            elif is_over:
                self._end(task, f"the chain can't be read: {error}", "unreadable")
            else:
                self._parked.append(task)
            return False
        return True

    def _failed(self, error: Exception, since: float | None) -> tuple[float, bool]:
        """Log a failure of the host. Return since when it fails, and whether that is too long."""
        if not self._has_failed:
            logger.warning("the chain can't be read for clients that follow transactions: %s", error)
        now = self._feed.clock()
        since = now if since is None else since
        return since, now - since >= _PATIENCE

    # Those that are not live yet

    def _resolve(self, task: FollowTask) -> None:
        """Find where a client begins, and reply."""
        reply, since = task.reply, task.since
        try:
            if since is not None:
                task.follow.point = self._history.start(since.height, since.hash)
                self._history.check(task.follow.point)  # a branch that is not known is refused by the reply
                reply = {**reply, "recovered": True}
        except HistoryGapError as gap:
            task.since = None
            reply = {**reply, "recovered": False, "reason": gap.reason, "detail": str(gap)}
        place = task.follow.point
        if task.since is None:
            task.follow.point = self._history.tip(self._feed.index.tip)
            place = task.before = self._history.back(task.follow.point, task.follow.keys.confirmations)
        task.scan = task.follow.point
        task.transition(WAITING)
        settle_future(task.answer, {**reply, "since": place.as_since()})

    def _start(self, task: FollowTask) -> None:
        cursor = task.follow.cursor
        if task.is_over:
            self._feed.activate(cursor)  # so that the error is sent, if its client is still there
            return
        self._tasks[cursor] = task
        self._counts[cursor.subscriber.id] += 1
        task.transition(SCANNING)
        task.follow.begin_scan()
        self._turns.append(task)

    def _go_on(self, task: FollowTask) -> None:
        (self._scan if task.state is SCANNING else self._catch_up)(task)

    def _scan(self, task: FollowTask) -> None:
        """Search the next blocks of those whose transactions still count confirmations: all that are kept, or one."""
        follow, is_kept = task.follow, True
        while is_kept:
            block = task.scan
            if block is None or block.height < follow.known_from:
                task.transition(BEHIND)
                if task.since is None:
                    self._send(task, follow.state(task.before))
                break
            is_kept = block in self._digests
            follow.remember(block, self._digests.of(block))
            task.scan = self._history.parent_of(block)
        self._continue(task)

    def _catch_up(self, task: FollowTask) -> None:
        """Report the next blocks, or let the subscription become live."""
        follow = task.follow
        steps = self._history.steps_after(follow.point)
        for step in steps:
            if step.connected and follow.lacks_blocks(step.block):
                self._scan_again(task, follow.point)
                return
            self._send(task, follow.apply(step, self._digest(step)))
            if task.is_over or not self._feed.has_time:
                break
        if steps:
            self._continue(task)
            return
        if self._point is None:
            self._point, self._highest = follow.point, follow.point.height
        if self._work is not None:
            self._continue(task)
            return
        if follow.point != self._point:
            self._parked.append(task)
            return
        for _ in self._report_changes():
            pass  # to those that are live already
        task.transition(LIVE)
        self._live.add(task)
        self._send(task, self._seen(follow))

    def _digest(self, step: HistoryStep) -> BlockDigest:
        digest = self._digests.of(step.block)
        if step.connected:
            self._pending.mined(digest.txids)
        return digest

    def _seen(self, follow: Follow, within: BlockDigest | None = None) -> bytes:
        """Return the message for what waits in the mempool, perhaps only for what was in a block, too."""
        found = self._pending.matching(follow.keys.txids, follow.keys.addresses)
        return follow.seen({txid: mine for txid, mine in found.items() if within is None or txid in within.txids})

    def _continue(self, task: FollowTask) -> None:
        """Give a subscription its next turn, once its client accepts data."""
        if not task.is_over and not self._backlogs.pause(task):
            self._turns.append(task)

    # Those that are live

    def _step_live(self, looked: bool) -> bool:
        """Report what is new. Return False if the host has failed, so that it is tried again later."""
        self._must_look |= looked
        if self._point is None or (self._failed_at is not None and not looked):
            return self._failed_at is None
        try:
            if self._work is None:
                self._work, self._must_look = self._report(self._must_look), False
            while self._work is not None and self._feed.has_time:
                if next(self._work, self) is self:
                    self._work = self._failed_at = None
        except HistoryGapError as gap:
            self._end_live(str(gap), gap.reason)
        except Exception as error:
            self._work = None
            self._failed_at, is_over = self._failed(error, self._failed_at)
            if is_over:
                self._end_live(f"the chain can't be read: {error}", "unreadable")
            return False
        return True

    def _report(self, looked: bool) -> Iterator[None]:
        """Report what is new, in pieces: it yields after each subscription that something concerns."""
        yield from self._report_changes()
        if looked:
            yield from self._report_blocks()
            yield from self._report_changes()  # an event that was published meanwhile has woken this thread in vain

    def _report_changes(self) -> Iterator[None]:
        """Report what came to the mempool and left it. What left it unnoticed may be in a block: it waits for those."""
        for change in self._pending.update():
            if change.reason == "missed":
                self._missed.append(change)
            elif change.reason != "mined":
                yield from self._report_change(change)

    def _report_change(self, change: MempoolChange) -> Iterator[None]:
        paid = frozenset(change.addresses)
        if change.reason is None and self._digests.is_mined(change.txid):
            return  # the host has published it late
        for task in self._live.concerned([change.txid, *change.addresses]):
            follow = task.follow
            if follow.is_confirmed(change.txid):
                continue
            if task.state is LIVE:  # otherwise it searches blocks again, and stands elsewhere
                assert self._point is not None
                follow.point = self._point
            mine = sorted(follow.keys.addresses & paid)
            if change.reason is None:
                self._send(task, follow.seen({change.txid: mine}))
            else:
                self._send(task, follow.dropped(change.txid, mine, change.reason))
            yield

    def _report_blocks(self) -> Iterator[None]:
        """Report all blocks to the tip."""
        assert self._point is not None
        while steps := self._history.steps_after(self._point):
            for step in steps:
                if step.connected and self._highest - self._point.height >= KEPT_DEEPER:
                    self._highest = self._point.height
                    for task in [task for task in self._tasks.values() if task.state is LIVE]:
                        self._scan_again(task, self._point)
                yield from self._report_block(step)
                self._point = step.after
                self._highest = max(self._highest, step.after.height)
        missed, self._missed = self._missed, []
        for change in missed:
            if change.txid not in self._pending:  # otherwise it has come back
                yield from self._report_change(change._replace(reason="unknown"))

    def _report_block(self, step: HistoryStep) -> Iterator[None]:
        digest = self._digest(step)
        concerned = self._live.concerned(digest.keys)
        others = [task for task in self._live.counting if task not in concerned] if step.connected else []
        for task in sorted([*concerned, *others], key=lambda task: self._counts[task.follow.cursor.subscriber.id]):
            if task.is_over or task.state is not LIVE:
                continue  # it has ended since the block was begun
            follow = task.follow
            assert self._point is not None
            follow.point = self._point
            self._send(task, follow.apply(step, digest if task in concerned else None))
            if not step.connected:  # what has returned to the mempool already was not reported while it had a block
                self._send(task, self._seen(follow, digest))
            if task.state is LIVE:
                self._live.count(task)
            yield

    def _scan_again(self, task: FollowTask, point: ChainPoint) -> None:
        """Let a subscription search the blocks again: after a deep reorganisation, forgotten transactions count again."""
        self._live.counting.pop(task, None)  # it goes on to hear of the mempool
        task.transition(SCANNING)
        task.since = SinceBlock(*point)
        task.scan = task.follow.point = point
        task.follow.begin_scan()
        self._continue(task)

    def _end_live(self, text: str, reason: str) -> None:
        for task in [task for task in self._tasks.values() if task.state is LIVE]:
            self._end(task, text, reason)
        self._point = self._work = self._failed_at = None

    def _end(self, task: FollowTask, text: str, reason: str) -> None:
        """End a subscription by an error. Nothing else is sent for it, so no event can follow one that is missing."""
        task.follow.cursor.end = EndOfStream(JsonRpcCode.EVENTS_LOST, text, {"reason": reason})
        self.on_end(task.follow.cursor)

    def _send(self, task: FollowTask, message: bytes) -> None:
        if not message or task.is_over:
            return
        try:
            self._offer(task, task.follow.cursor.subscriber.encoder.encode(message))
        except Exception as error:  # of a host's codec: others must get the event all the same, and once
            logger.warning("an event can't be sent to %r: %s", task, error)
            self._end(task, "the event can't be sent", "codec")

    def _offer(self, task: FollowTask, data: bytes) -> None:
        """Send a frame, or let it wait behind those that wait already."""
        if not task.is_over and not self._backlogs.offer(task, data):
            self._end(task, f"you read too slowly: past the {limit_reached(self._limits, 'follow_backlog')}", "slow")

from __future__ import annotations

import pytest

from dilithion_ws.events.log import EventLog, EventsGoneError, Retention, StoredEntry
from dilithion_ws.util.position import Position

from ..support import Clock


def make(entries: int = 100, seconds: float = 100.0, size: int = 10_000) -> tuple[EventLog, Clock]:
    clock = Clock()
    return EventLog(Retention(entries, seconds, size), clock, "e1"), clock


def seqs(log: EventLog, after: int, most: int = 10_000, epoch: str = "e1") -> list[int]:
    return [entry.seq for entry in log.read(Position(epoch, after), most)[0]]


def test_entries_are_numbered_from_one_and_read_behind_a_place() -> None:
    log, _ = make()
    assert log.position == ("e1", 0)
    assert log.first == 1
    assert [log.append(b"x") for _ in range(3)] == [1, 2, 3]
    assert seqs(log, 0) == [1, 2, 3]
    assert seqs(log, 2) == [3]
    assert seqs(log, 3) == []


@pytest.mark.parametrize("bound", ["entries", "seconds", "size"])
def test_each_bound_drops_the_oldest(bound: str) -> None:
    log, clock = make(**{bound: {"entries": 3, "seconds": 3.0, "size": 3}[bound]})  # type: ignore[arg-type]
    for _ in range(8):
        log.append(b"x")
        clock.now += 1.0
    first = log.first
    assert 9 - first <= 3
    assert seqs(log, first - 1)[-1] == 8
    with pytest.raises(EventsGoneError, match="expired"):
        log.read(Position("e1", first - 2), 100)


def test_a_burst_is_kept_for_those_who_are_a_little_behind() -> None:
    clock = Clock()
    log = EventLog(Retention(10, 100.0, 1000, lag=5.0), clock, "e1")
    for _ in range(20):
        log.append(b"x")
    assert log.first == 1, "twice as many, for as long as they are young"
    log.append(b"x")
    assert log.first == 2, "never more"
    clock.now += 4.0
    log.append(b"x")
    clock.now += 1.5
    assert log.first == 13, "the number counts for those that are older"
    clock.now += 5.0
    assert log.first == 13
    log.load("e2", 0, [])
    for _ in range(3):
        log.append(b"x" * 500)
    assert log.first == 1
    for _ in range(2):
        log.append(b"x" * 500)
    assert log.first == 2


def test_a_log_may_keep_nothing() -> None:
    log, _ = make(entries=0, size=0)
    assert log.append(b"x") == 1
    assert (len(log), log.first) == (0, 2)


def test_entries_are_read_back_from_a_position() -> None:
    log, _ = make()
    for _ in range(6):
        log.append(b"xxxx")
    assert [entry.seq for entry in log.read_back(Position("e1", 5), 9)] == [4, 5]
    assert [entry.seq for entry in log.read_back(Position("e1", 5), 1)] == [5]
    assert [entry.seq for entry in log.read_back(Position("e1", 6), 1000)] == [1, 2, 3, 4, 5, 6]
    for position in (Position("e1", 0), Position("e1", 8), Position("e2", 3)):
        with pytest.raises(EventsGoneError):
            log.read_back(position, 1000)


def test_a_place_of_another_log_or_beyond_the_head_is_refused() -> None:
    log, _ = make()
    log.append(b"x")
    with pytest.raises(EventsGoneError, match="epoch"):
        log.read(Position("e0", 0), 100)
    with pytest.raises(EventsGoneError, match="ahead"):
        log.check_position(Position("e1", 2))
    log.start_new_epoch("e2", 7)
    assert log.position == ("e2", 7)
    with pytest.raises(EventsGoneError, match="epoch"):
        log.check_position(Position("e1", 1))
    assert log.append(b"x") == 8


def test_reading_stops_at_a_size_but_never_before_the_first() -> None:
    log, _ = make()
    for _ in range(3):
        log.append(b"xxxx")
    assert [entry.seq for entry in log.read(Position("e1", 0), 1)[0]] == [1]
    entries, more = log.read(Position("e1", 0), 8)
    assert [entry.seq for entry in entries] == [1, 2]
    assert more
    assert log.read(Position("e1", 2), 8)[1] is False


def test_no_subscription_reads_across_a_hole_in_a_store() -> None:
    log, _ = make()
    log.append(b"x", 1)
    log.append(b"x", 5)
    with pytest.raises(EventsGoneError, match="expired"):
        log.read(Position("e1", 1), 100)
    assert seqs(log, 4) == [5]
    with pytest.raises(ValueError, match="is not after"):
        log.append(b"x", 5)


def test_what_a_store_kept_comes_back_with_its_age() -> None:
    log, clock = make(seconds=10.0)
    log.load("e9", 4, [StoredEntry(2, b"a", 11.0), StoredEntry(3, b"b", 5.0), StoredEntry(4, b"c", 1.0)])
    assert log.position == ("e9", 4)
    assert log.first == 3
    clock.now += 6
    assert log.first == 4
    log.load("e9", 4, [StoredEntry(2, b"a", 1.0)])
    assert log.first == 5, "entries that do not reach up to the head are of no use"


def test_only_what_a_store_has_kept_without_a_gap_up_to_the_head_is_used() -> None:
    log, _ = make()
    stored = [StoredEntry(seq, b"%d" % seq, 0.0) for seq in (*range(1, 10), *range(15, 31))]
    log.load("e", 30, stored)
    assert (log.first, len(log)) == (15, 16)
    assert [entry.seq for entry in log.read(Position("e", 20), 1000)[0]] == list(range(21, 31))
    with pytest.raises(EventsGoneError, match="expired"):
        log.read(Position("e", 12), 1000)
    log.load("e", 31, stored)
    assert (log.first, len(log)) == (32, 0)
    log.append(b"32")
    assert [entry.data for entry in log.read(Position("e", 31), 1000)[0]] == [b"32"]

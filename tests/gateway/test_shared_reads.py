"""Reads that clients share: never older than the last write, nor than the version of what they depend on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dilithion_ws import RpcError
from dilithion_ws.gateway.shared_reads import Read, SharedReads
from dilithion_ws.gateway.upstream_errors import UpstreamError, UpstreamErrorKind

from ..support import Clock, wait_for


def make(max_bytes: int = 16_000, max_age: float = 60.0) -> tuple[SharedReads, Clock]:
    clock = Clock()
    return SharedReads(clock, max_bytes, max_age), clock


def counted(results: list[bytes]) -> Callable[[], bytes]:
    def fetch() -> bytes:
        results.append(b"%d" % len(results))
        return results[-1]

    return fetch


def test_a_result_is_kept_until_the_version_changes_a_write_or_its_age() -> None:
    reads, clock = make()
    results: list[bytes] = []
    fetch = counted(results)

    def read(version: Any = 1, key: str = "k") -> bytes:
        found: bytes = reads.read(Read(key, fetch, 1.0, version))
        return found

    assert [read(), read(), read(2), read(2), read(None), read(2)] == [b"0", b"0", b"1", b"1", b"2", b"1"]
    assert reads.write(lambda: "written") == "written"
    assert [read(2), read(2)] == [b"3", b"3"]
    clock.now += 61
    assert read(2) == b"4"


def test_the_bytes_that_are_kept_are_bounded() -> None:
    reads, _ = make(16 * 600)
    for number in range(100):
        reads.read(Read(number, lambda: b"x" * 100, 1.0, 1))
    assert reads._bytes == 16 * 600
    assert len(reads._kept) == 16
    reads.read(Read("large", lambda: b"x" * 101, 1.0, 1))
    reads.read(Read(("m", b" " * 2000), lambda: b"x", 1.0, 1))
    assert all(isinstance(key, int) for key in reads._kept), "large keys are not kept either"
    reads.read(Read("none", lambda: b"x", 1.0, 1, lambda result: 0))
    assert {"large", "none"} & set(reads._kept) == set()
    nothing, _ = make(0)
    nothing.read(Read("k", lambda: b"x", 1.0, 1))
    assert not nothing._kept


def test_equal_reads_at_the_same_time_are_one_and_a_write_separates_them() -> None:
    reads, _ = make()
    may_end = threading.Event()
    started: list[int] = []

    def slow() -> bytes:
        started.append(1)
        assert may_end.wait(10)
        return b"%d" % len(started)

    with ThreadPoolExecutor(8) as pool:
        first = [pool.submit(reads.read, Read("k", slow, 10.0)) for _ in range(4)]
        wait_for(lambda: len(started) == 1)
        reads.write(lambda: None)
        later = pool.submit(reads.read, Read("k", slow, 10.0))
        wait_for(lambda: len(started) == 2)
        may_end.set()
        assert {future.result(10) for future in first} == {b"2"}
        assert later.result(10) == b"2"
    assert len(started) == 2
    assert not reads._running


def test_a_read_that_began_before_a_write_is_not_kept() -> None:
    reads, _ = make()

    def fetch() -> bytes:
        reads.write(lambda: None)
        return b"old"

    assert reads.read(Read("k", fetch, 1.0, 1)) == b"old"
    assert reads.read(Read("k", lambda: b"new", 1.0, 1)) == b"new"


def test_who_waits_gets_the_error_or_a_timeout() -> None:
    reads, _ = make()
    may_end, begun = threading.Event(), threading.Event()

    def fail() -> bytes:
        begun.set()
        assert may_end.wait(10)
        raise RpcError(-5, "no")

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(reads.read, Read("k", fail, 10.0))
        assert begun.wait(10)
        with pytest.raises(UpstreamError) as caught:
            reads.read(Read("k", fail, 0.01))
        assert caught.value.kind is UpstreamErrorKind.SLOW_READ
        second = pool.submit(reads.read, Read("k", fail, 10.0))
        may_end.set()
        for future in (first, second):
            with pytest.raises(RpcError, match="no"):
                future.result(10)
    assert reads.read(Read("k", lambda: b"good", 1.0)) == b"good"


@given(st.lists(st.tuples(st.sampled_from(["read", "write", "tip", "time"]), st.integers(0, 3)), max_size=50))
def test_no_result_is_older_than_the_state_that_it_depends_on(steps: list[tuple[str, int]]) -> None:
    reads, clock = make(100_000)
    state, tip = 0, 0
    for kind, number in steps:
        if kind == "write":

            def change() -> None:
                nonlocal state
                state += 1

            reads.write(change)
        elif kind == "tip":
            state, tip = state + 1, tip + 1
        elif kind == "time":
            clock.now += 40
        else:
            value = f"{number} {state}".encode()
            assert reads.read(Read(number, lambda value=value: value, 1.0, tip)) == value  # type: ignore[misc]

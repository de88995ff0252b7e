from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from dilithion_ws.net.poller import ENDED, READ, WRITE, Poller, SelectorPoller, Waker


@pytest.fixture(params=[Poller, SelectorPoller])
def poller(request: pytest.FixtureRequest) -> Iterator[Poller | SelectorPoller]:
    poller = request.param()
    yield poller
    poller.close()


def test_a_poller_waits_for_the_registered_events(poller: Poller | SelectorPoller) -> None:
    left, right = socket.socketpair()
    with left, right:
        fd = left.fileno()
        poller.set_interest(fd, 0, READ)
        assert poller.poll(0) == []
        right.send(b"x")
        assert poller.poll(1) == [(fd, READ)]
        poller.set_interest(fd, READ, READ | WRITE)
        assert sum(mask for _, mask in poller.poll(1)) & (READ | WRITE) == READ | WRITE
        poller.set_interest(fd, READ | WRITE, 0)
        assert poller.poll(0) == []
        right.close()
        assert poller.poll(0) == [], "who waits for nothing hears of no hang-up"
        poller.set_interest(fd, 0, READ)
        assert poller.poll(1)[0][1] & (READ | ENDED)


def test_a_waker_never_blocks_and_is_drained_whole(poller: Poller | SelectorPoller) -> None:
    waker = Waker()
    poller.set_interest(waker.fd, 0, READ)
    for _ in range(1_000_000 // 4):
        waker.wake()
    assert poller.poll(1) == [(waker.fd, READ)]
    waker.drain()
    assert poller.poll(0) == []
    waker.wake()
    assert poller.poll(1)
    poller.set_interest(waker.fd, READ, 0)
    waker.close()
    waker.wake()

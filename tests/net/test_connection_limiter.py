from __future__ import annotations

from dilithion_ws import Limits
from dilithion_ws.net.connection_limiter import ConnectionLimiter
from dilithion_ws.protocol.http import HttpRefusal

from ..support.net import AllowAll


def reason(refusal: HttpRefusal | None) -> str:
    assert refusal is not None
    return refusal.message


def test_connections_are_counts_in_all_and_by_network() -> None:
    limiter = ConnectionLimiter(Limits.from_names(connections=4, connections_per_address=2), 100, AllowAll())
    assert [limiter.acquire("10.0.0.1") for _ in range(2)] == [None, None]
    assert "rpcwebsocketconnectionsperaddress" in reason(limiter.acquire("10.0.0.1"))
    assert [limiter.acquire("127.0.0.1") for _ in range(2)] == [None, None], "loopback is exempt from the second limit"
    assert "connections limit of 4 connections (rpcwebsocketconnections)" in reason(limiter.acquire("10.0.0.2"))
    limiter.release("10.0.0.1")
    assert limiter.acquire("10.0.0.1") is None
    for host in ("10.0.0.1", "10.0.0.1", "127.0.0.1", "127.0.0.1"):
        limiter.release(host)
    assert limiter.total == 0
    assert limiter._by_network == {}


def test_connections_stay_below_the_limit_of_open_files() -> None:
    limiter = ConnectionLimiter(Limits(), 1, AllowAll())
    assert limiter.acquire("127.0.0.1") is None
    assert "open files" in reason(limiter.acquire("127.0.0.1"))

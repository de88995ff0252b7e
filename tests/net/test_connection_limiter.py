from __future__ import annotations

import pytest

from dilithion_ws import Limits
from dilithion_ws.config.config import parse_network
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


def test_connections_stay_below_the_limit_of_open_files() -> None:
    limiter = ConnectionLimiter(Limits(), 1, AllowAll())
    assert limiter.acquire("127.0.0.1") is None
    assert "open files" in reason(limiter.acquire("127.0.0.1"))


PROXY = parse_network("10.0.0.1", "trusted_proxies")


@pytest.mark.parametrize(
    ("header", "client"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("203.0.113.9:4711", "203.0.113.9"),
        ("[2001:db8::1]:4711", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
        ("198.51.100.1, 203.0.113.9", "203.0.113.9"),
        ("203.0.113.9, 10.0.0.1", "203.0.113.9"),
        ("10.0.0.1", "10.0.0.1"),
        ("unknown", None),
        ("203.0.113.9, _hidden", None),
    ],
)
def test_a_proxy_names_its_client(header: str, client: str | None) -> None:
    limiter = ConnectionLimiter(Limits(), 100, AllowAll(), [PROXY])
    assert limiter.forwarded_client("10.0.0.1", header) == client


def test_a_client_behind_a_proxy_counts_for_its_own_address() -> None:
    limiter = ConnectionLimiter(Limits.from_names(connections_per_address=1), 100, AllowAll(), [PROXY])
    assert [limiter.acquire("10.0.0.1") for _ in range(3)] == [None, None, None], "a proxy has many clients"
    assert limiter.reassign("10.0.0.1", "203.0.113.9") is None
    assert "rpcwebsocketconnectionsperaddress" in reason(limiter.reassign("10.0.0.1", "203.0.113.9"))


class DenyAll(AllowAll):
    """A policy that objects to every address."""

    def check_connection(self, host: str) -> HttpRefusal | None:
        return HttpRefusal(403, "not you")


def test_the_policy_may_refuse_an_address() -> None:
    limiter = ConnectionLimiter(Limits(), 100, DenyAll(), [PROXY])
    assert reason(limiter.acquire("203.0.113.9")) == "not you"
    assert limiter.acquire("10.0.0.1") is None, "the clients of a proxy are checked, not the proxy"
    assert reason(limiter.reassign("10.0.0.1", "203.0.113.9")) == "not you"


def test_without_trusted_proxies_no_address_is_one() -> None:
    assert not ConnectionLimiter(Limits(), 100, AllowAll()).is_trusted_proxy("10.0.0.1")


@pytest.mark.parametrize(
    ("text", "client"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("192.0.2.7:1234", "192.0.2.7"),
        ("[2001:db8::1]:1234", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
        ('192.0.2.7%"evil', None),
        ("192.0.2.7:abc", None),
        ("[::1]evil", None),
        ("evil[::1]", None),
        ("fe80::1%eth0", None),
    ],
)
def test_what_a_proxy_may_write(text: str, client: str | None) -> None:
    limiter = ConnectionLimiter(Limits(), 10, AllowAll(), [parse_network("127.0.0.1", "")])
    assert limiter.forwarded_client("127.0.0.1", text) == client

"""Who may connect: which addresses, how many connections in all and from one address, and who is behind a proxy."""

from __future__ import annotations

import ipaddress
import threading
from collections.abc import Callable, Sequence

from ..config.limits import Limits, limit_reached
from ..protocol.http_connection import HttpRefusal
from ..util.ip import is_loopback, network_of, parse_address

__all__ = ["ConnectionLimiter"]


class ConnectionLimiter:
    """Counts connections from accept to close. Thread-safe: the acceptor admits, the leader releases.

    Args:
        limits: the two limits.
        files: connections that the process has descriptors for.
        refusal: why an address may not connect; None where it may.
        trusted: networks of proxies, of which the limits are those of the clients behind them.
    """

    def __init__(
        self,
        limits: Limits,
        files: int,
        refusal: Callable[[str], HttpRefusal | None] = lambda host: None,
        trusted: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network] = (),
    ) -> None:
        self._counting = threading.Lock()  # guards the two counts
        self._limits = limits
        self._files = files
        self._refusal = refusal
        self._trusted = trusted
        self._total = 0
        self.accepted = 0
        self._by_address: dict[str, int] = {}

    @property
    def total(self) -> int:
        """Connections admitted and not released."""
        return self._total

    def trusts(self, host: str) -> bool:
        """Whether an address is that of a proxy whose word is taken."""
        if not self._trusted:
            return False
        address = parse_address(host)
        return address is not None and any(address in network for network in self._trusted)

    def enter(self, host: str) -> HttpRefusal | None:
        """Lets a new connection in, or says why not."""
        refusal = None if self.trusts(host) else self._refusal(host)
        return refusal or _no_room(self.admit(host))

    def reenter(self, proxy: str, host: str) -> HttpRefusal | None:
        """Counts a connection that came from a proxy as one of the client behind it; or says why that may not be."""
        refusal = self._refusal(host)
        if refusal is not None:
            return refusal
        proxy, network = network_of(proxy), network_of(host)
        with self._counting:
            mine = self._by_address.get(network, 0)
            if not is_loopback(host) and mine >= self._limits.connections.connections_per_address:
                return _no_room(limit_reached(self._limits, "connections_per_address"))
            self._leave(proxy)
            self._by_address[network] = self._by_address.get(network, 0) + 1
        return None

    def client_of(self, proxy: str, forwarded: str) -> str | None:
        """The client that a proxy names in X-Forwarded-For: the last address that is not a proxy's itself.

        Returns:
            Its address; None where that can't be read.
        """
        host = proxy
        for item in reversed(forwarded.split(",")):
            text = item.strip()
            if text.startswith("["):
                text = text[1:].partition("]")[0]
            elif text.count(":") == 1:
                text = text.partition(":")[0]
            if parse_address(text) is None:
                return None
            host = text
            if not self.trusts(host):
                break
        return host

    def admit(self, host: str) -> str | None:
        """Counts one more connection of this address; returns why it can't be, None where it is counted."""
        exempt = is_loopback(host) or self.trusts(host)
        host = network_of(host)
        with self._counting:
            if self._total >= self._limits.connections.connections:
                return limit_reached(self._limits, "connections")
            if self._total >= self._files:
                return f"limit of open files of the process ({self._files} connections)"
            mine = self._by_address.get(host, 0)
            if not exempt and mine >= self._limits.connections.connections_per_address:
                return limit_reached(self._limits, "connections_per_address")
            self._total += 1
            self.accepted += 1
            self._by_address[host] = mine + 1
        return None

    def release(self, host: str) -> None:
        """Counts one connection of this address less."""
        host = network_of(host)
        with self._counting:
            self._total -= 1
            self._leave(host)

    def _leave(self, host: str) -> None:
        assert self._counting.locked()
        left = self._by_address[host] - 1
        if left:
            self._by_address[host] = left
        else:
            del self._by_address[host]


def _no_room(reason: str | None) -> HttpRefusal | None:
    return None if reason is None else HttpRefusal(503, f"no room: {reason}", ((b"Retry-After", b"5"),))

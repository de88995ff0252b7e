"""How many connections there may be, in all and from one address, and which client is behind a proxy."""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from typing import Protocol

from ..config.config import IPNetwork
from ..config.limits import Limits, limit_reached
from ..protocol.http import HttpRefusal
from ..util.ip import is_loopback, network_of, parse_address
from ..util.thread_contracts import any_thread, requires

__all__ = ["ConnectionLimiter", "ConnectionPolicy"]

_FORWARDED = re.compile(r"\[([0-9a-fA-F:.]+)\](?::[0-9]{1,5})?|([0-9.]+(?=:)|[0-9a-fA-F:.]+)(?::[0-9]{1,5})?")
"""An address with or without a port; one of IPv6 with a port has brackets. It never has a zone."""

_RETRY_AFTER = ((b"Retry-After", b"5"),)


class ConnectionPolicy(Protocol):
    """Decides which addresses may connect."""

    def check_connection(self, host: str) -> HttpRefusal | None:
        """Return why an address may not connect now, or None if it may."""


class ConnectionLimiter:
    """Counts connections from accept to close. Thread-safe: the acceptor acquires, the leader releases.

    Args:
        limits: the limits.
        max_files: connections for which the process has descriptors.
        policy: decides which addresses may connect.
        trusted_proxies: networks of proxies; their connections count towards the limits of the clients behind them.

    Attributes:
        accepted: connections that were acquired.
    """

    def __init__(
        self, limits: Limits, max_files: int, policy: ConnectionPolicy, trusted_proxies: Sequence[IPNetwork] = ()
    ) -> None:
        self._limits = limits.connections
        self._all_limits = limits
        self._max_files = max_files
        self._policy = policy
        self._trusted_proxies = trusted_proxies
        self.accepted = 0
        self._lock = threading.Lock()  # guards the two counts
        self._total = 0
        self._by_network: dict[str, int] = {}

    @property
    def total(self) -> int:
        """Connections that were acquired and not released."""
        return self._total

    @any_thread
    def is_trusted_proxy(self, host: str) -> bool:
        """Return whether an address belongs to a proxy that may name its clients."""
        if not self._trusted_proxies:
            return False
        address = parse_address(host)
        return address is not None and any(address in network for network in self._trusted_proxies)

    @any_thread
    def acquire(self, host: str) -> HttpRefusal | None:
        """Count a new connection. Return why it must be refused, or None."""
        is_proxy = self.is_trusted_proxy(host)
        refusal = None if is_proxy else self._policy.check_connection(host)
        if refusal is not None:
            return refusal
        exempt = is_proxy or is_loopback(host)
        network = network_of(host)
        with self._lock:
            if self._total >= self._limits.connections:
                return self._service_unavailable(limit_reached(self._all_limits, "connections"))
            if self._total >= self._max_files:
                return self._service_unavailable(f"limit of open files of the process ({self._max_files} connections)")
            count = self._by_network.get(network, 0)
            if not exempt and count >= self._limits.connections_per_address:
                return self._service_unavailable(limit_reached(self._all_limits, "connections_per_address"))
            self._total += 1
            self.accepted += 1
            self._by_network[network] = count + 1
        return None

    @any_thread
    def reassign(self, proxy: str, host: str) -> HttpRefusal | None:
        """Count a connection of a proxy as one of the client behind it. Return why that must be refused, or None."""
        refusal = self._policy.check_connection(host)
        if refusal is not None:
            return refusal
        network = network_of(host)
        with self._lock:
            count = self._by_network.get(network, 0)
            if not is_loopback(host) and count >= self._limits.connections_per_address:
                return self._service_unavailable(limit_reached(self._all_limits, "connections_per_address"))
            self._uncount(network_of(proxy))
            self._by_network[network] = self._by_network.get(network, 0) + 1
        return None

    @any_thread
    def release(self, host: str) -> None:
        """Stop counting a connection of this address."""
        with self._lock:
            self._total -= 1
            self._uncount(network_of(host))

    @any_thread
    def forwarded_client(self, proxy: str, forwarded: str) -> str | None:
        """Return the client that a proxy names in X-Forwarded-For: the last address that is not a trusted proxy.

        Returns:
            Its address, or None if the header contains something else.
        """
        host = proxy
        for item in reversed(forwarded.split(",")):
            found = _FORWARDED.fullmatch(item.strip())
            text = "" if found is None else found[1] or found[2]
            if parse_address(text) is None:
                return None
            host = text
            if not self.is_trusted_proxy(host):
                break
        return host

    @requires("_lock")
    def _uncount(self, network: str) -> None:
        left = self._by_network[network] - 1
        if left:
            self._by_network[network] = left
        else:
            del self._by_network[network]

    def _service_unavailable(self, reason: str) -> HttpRefusal:
        return HttpRefusal(503, f"no room: {reason}", _RETRY_AFTER)

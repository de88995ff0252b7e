"""IP addresses as text."""

from __future__ import annotations

import ipaddress
from functools import lru_cache

__all__ = ["IPAddress", "is_loopback", "network_of", "parse_address"]

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_CACHE_SIZE = 4096
"""Results that are cached: the same clients come again, and `ipaddress` takes 10 µs for each."""


@lru_cache(_CACHE_SIZE)
def parse_address(text: str) -> IPAddress | None:
    """Return an address, or None if the text is not one. IPv4-mapped addresses become IPv4, zones are removed."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


@lru_cache(_CACHE_SIZE)
def is_loopback(text: str) -> bool:
    """Return whether the text is a loopback address."""
    address = parse_address(text)
    return address is not None and address.is_loopback


@lru_cache(_CACHE_SIZE)
def network_of(text: str) -> str:
    """Return what limits by address count as one client: an IPv4 address, or a /64 network of IPv6.

    One host controls a whole /64 network (RFC 4291 section 2.5.1), so limits by single address would not limit it.
    """
    if ":" not in text:
        return text
    address = parse_address(text)
    if isinstance(address, ipaddress.IPv6Address):
        return f"{ipaddress.IPv6Address(int(address) >> 64 << 64)}/64"
    return text if address is None else str(address)

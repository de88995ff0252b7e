"""IP addresses as text: what kind they are."""

from __future__ import annotations

import ipaddress
from functools import lru_cache

__all__ = ["IPAddress", "is_loopback", "network_of", "parse_address"]

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_REMEMBERED = 4096
"""Texts of which the answers are kept: the same clients come again, and `ipaddress` takes 10 µs for each."""


@lru_cache(_REMEMBERED)
def parse_address(text: str) -> IPAddress | None:
    """The address that a text stands for, None where it is none; IPv4-mapped ones become IPv4, zones are dropped."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


@lru_cache(_REMEMBERED)
def is_loopback(text: str) -> bool:
    """Whether an address is of this machine."""
    address = parse_address(text)
    return address is not None and address.is_loopback


@lru_cache(_REMEMBERED)
def network_of(text: str) -> str:
    """What limits by address count as one client: an IPv4 address, or an IPv6 network of 64 bits.

    One host has a whole such network to itself (RFC 4291 section 2.5.1), so that a limit for each of its addresses would
    be none.
    """
    if ":" not in text:
        return text
    address = parse_address(text)
    if isinstance(address, ipaddress.IPv6Address):
        return f"{ipaddress.IPv6Address(int(address) >> 64 << 64)}/64"
    return text if address is None else str(address)

"""The checksum of a stored event. It finds what a disk has changed by mistake, not what a person has changed."""

from __future__ import annotations

import zlib

__all__ = ["checksum"]


def checksum(*parts: str | bytes) -> str:
    """Return the CRC-32 of parts and their lengths, as hexadecimal digits."""
    found = 0
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        found = zlib.crc32(data, zlib.crc32(len(data).to_bytes(8, "little"), found))
    return f"{found:08x}"

from __future__ import annotations

import ipaddress
import struct

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"


def version_1(client: str, port: int) -> bytes:
    version = ipaddress.ip_address(client).version
    server = "10.0.0.1" if version == 4 else "::1"
    return f"PROXY TCP{version} {client} {server} {port} 8333\r\n".encode()


def version_2(client: str, port: int, more: bytes = b"", command: int = 0x21) -> bytes:
    address = ipaddress.ip_address(client)
    addresses = address.packed + address.packed + struct.pack("!HH", port, 8333)
    family = 0x11 if address.version == 4 else 0x21
    return SIGNATURE + struct.pack("!BBH", command, family, len(addresses + more)) + addresses + more

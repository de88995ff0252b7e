"""Unmask client payloads (RFC 6455 section 5.3) by the fastest function that is installed.

`websockets` has a C function for it, which is used if the extra `dilithion-ws[speed]` is installed. Without it, XOR of
integers is faster below about 1 KiB, and wsproto's translation tables are faster above. Microseconds per call on CPython
3.11:

    bytes       int XOR   wsproto   websockets (C)
    61             0.44      1.37             0.14
    1,000          2.46      2.29             0.22
    1,048,576     3,830     1,510               30
"""

from __future__ import annotations

from collections.abc import Callable

from wsproto.frame_protocol import XorMaskerSimple

__all__ = ["unmask", "unmask_in_python"]

_INT_IS_FASTER_BELOW = 1000


def unmask_in_python(payload: bytes, key: bytes) -> bytes:
    """Return `payload` XOR the repeated four-byte `key`: masking and unmasking are the same operation."""
    size = len(payload)
    if size < _INT_IS_FASTER_BELOW:
        pad = (key * (size // 4 + 1))[:size]
        return (int.from_bytes(payload, "little") ^ int.from_bytes(pad, "little")).to_bytes(size, "little")
    return bytes(XorMaskerSimple(key).process(bytearray(payload)))


unmask: Callable[[bytes, bytes], bytes] = unmask_in_python
try:
    from websockets.speedups import apply_mask
except ImportError:  # the extra is not installed, or has no wheel for this platform
    pass
else:
    unmask = apply_mask

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

import sys
from collections.abc import Callable
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec

from wsproto.frame_protocol import XorMaskerSimple

__all__ = ["unmask", "unmask_in_python"]

_INT_IS_FASTER_BELOW = 1000
_SPEEDUPS = "websockets.speedups"


def unmask_in_python(payload: bytes, key: bytes) -> bytes:
    """Return `payload` XOR the repeated four-byte `key`: masking and unmasking are the same operation."""
    size = len(payload)
    if size < _INT_IS_FASTER_BELOW:
        pad = (key * (size // 4 + 1))[:size]
        return (int.from_bytes(payload, "little") ^ int.from_bytes(pad, "little")).to_bytes(size, "little")
    return bytes(XorMaskerSimple(key).process(bytearray(payload)))


def _unmask_in_c() -> Callable[[bytes, bytes], bytes] | None:
    """Return the function of `websockets`, or None if the extra is not installed or has no wheel for this platform.

    Only that module is loaded. The package around it would import much that is not needed here: 25 ms and 2 MB. It does
    not stay in `sys.modules`, so that a program that imports `websockets` gets it whole.
    """
    is_loaded = _SPEEDUPS in sys.modules
    try:
        if is_loaded:
            module = sys.modules[_SPEEDUPS]
        else:
            package = find_spec("websockets")
            if package is None or package.submodule_search_locations is None:
                return None
            found = PathFinder.find_spec(_SPEEDUPS, package.submodule_search_locations)
            if found is None or found.loader is None:
                return None
            module = module_from_spec(found)
            found.loader.exec_module(module)
        return getattr(module, "apply_mask", None)
    except (ImportError, ValueError):  # the latter if something else has this name
        return None
    finally:
        if not is_loaded:
            sys.modules.pop(_SPEEDUPS, None)


unmask: Callable[[bytes, bytes], bytes] = _unmask_in_c() or unmask_in_python

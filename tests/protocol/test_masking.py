from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dilithion_ws.protocol.masking import unmask, unmask_in_python

OURS = "import sys, types, dilithion_ws.protocol.masking as m; print(m.unmask.__name__, 'websockets' in sys.modules);"

THEN = "import websockets.speedups;"
STUB = "import sys, types; sys.modules['websockets'] = types.ModuleType('websockets');"


@pytest.mark.parametrize(
    ("code", "printed"),
    [
        (OURS, "apply_mask False\n"),
        (
            OURS + "import websockets.speedups; print(websockets.speedups.apply_mask.__name__)",
            "apply_mask False\napply_mask\n",
        ),
        ("import websockets.speedups;" + OURS, "apply_mask True\n"),
        (
            "import sys, types; sys.modules['websockets'] = types.ModuleType('websockets');" + OURS,
            "unmask_in_python True\n",
        ),
        ("import sys; sys.modules['websockets'] = None;" + OURS, "unmask_in_python True\n"),
    ],
    ids=["by itself", "then the package", "the package first", "a stub", "hidden"],
)
def test_the_function_in_c_is_used_without_its_package(code: str, printed: str) -> None:
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown == printed


payloads = st.one_of(
    st.binary(max_size=50), st.integers(990, 1100).map(lambda size: bytes(range(256)) * 5 + b"x" * size)
)


@given(payloads, st.binary(min_size=4, max_size=4))
def test_both_functions_are_xor_with_the_key(payload: bytes, key: bytes) -> None:
    expected = bytes(byte ^ key[at % 4] for at, byte in enumerate(payload))
    assert unmask(payload, key) == unmask_in_python(payload, key) == expected

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dilithion_ws.protocol.masking import unmask, unmask_in_python

payloads = st.one_of(
    st.binary(max_size=50), st.integers(990, 1100).map(lambda size: bytes(range(256)) * 5 + b"x" * size)
)


@given(payloads, st.binary(min_size=4, max_size=4))
def test_both_functions_are_xor_with_the_key(payload: bytes, key: bytes) -> None:
    expected = bytes(byte ^ key[at % 4] for at, byte in enumerate(payload))
    assert unmask(payload, key) == unmask_in_python(payload, key) == expected

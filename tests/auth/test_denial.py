from __future__ import annotations

import pytest

from dilithion_ws.auth.denial import Denial, DenialKind
from dilithion_ws.errors import JsonRpcCode


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (DenialKind.RATE, JsonRpcCode.RATE_LIMITED),
        (DenialKind.LOCKED_OUT, JsonRpcCode.RATE_LIMITED),
        (DenialKind.PERMISSION, JsonRpcCode.PERMISSION_DENIED),
        (DenialKind.NOT_AUTHENTICATED, JsonRpcCode.NOT_AUTHENTICATED),
        (DenialKind.CREDENTIALS, JsonRpcCode.NOT_AUTHENTICATED),
    ],
)
def test_a_denial_is_an_error_with_the_code_of_its_kind(kind: DenialKind, code: JsonRpcCode) -> None:
    error = Denial(kind=kind, message="no").to_rpc_error()
    assert (error.code, error.message) == (code, "no")


def test_the_time_to_wait_is_rounded_up() -> None:
    error = Denial(kind=DenialKind.RATE, message="no", retry_after=0.0101).to_rpc_error()
    assert error.data["retry_after_ms"] == 11


def test_the_missing_permission_is_named() -> None:
    error = Denial(kind=DenialKind.PERMISSION, message="no", permission="ADMIN_SERVER").to_rpc_error()
    assert error.data["permission"] == "ADMIN_SERVER"

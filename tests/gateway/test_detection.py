"""Which dialect a node speaks, by its answer to the first request."""

from __future__ import annotations

import pytest

from dilithion_ws.gateway.dialects.bitcoin_core import CORE
from dilithion_ws.gateway.dialects.detection import detect_dialect, dialect_named
from dilithion_ws.gateway.dialects.dilithion import DILITHION
from dilithion_ws.gateway.response_parser import UpstreamReply


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (b'{"result":{"blocks":1,"headers":1},"error":null}', "core"),
        (b'{"result":{"verificationprogress":1},"error":null}', "core"),
        (b'{"result":{"blocks":1}}', "dilithion"),
        (b'{"error":{"code":-32603,"error_code":"RPC-X"}}', "dilithion"),
        (b'{"result":null,"error":{"code":-32601}}', "core"),
        (b'{"error":{"code":-28}}', "core"),
        (b'{"error":"Unauthorized - Invalid or missing credentials"}', "dilithion"),
        (b'{"error":"bad gateway"}', None),
        (b'{"error":{"code":1}}', None),
        (b'{"result":5}', None),
        (b"[]", None),
        (b"<html>", None),
        (b"[" * 100_000, None),
    ],
)
def test_a_node_is_recognised_by_its_answer(body: bytes, name: str | None) -> None:
    found = detect_dialect(UpstreamReply(200, {}, body))
    assert (None if found is None else found.name) == name


def test_dialects_have_names() -> None:
    assert [dialect_named(name) for name in ("dilithion", "core", "auto")] == [DILITHION, CORE, None]

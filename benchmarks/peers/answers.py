"""What all peers in Python answer: nothing is checked, the standard library's json."""

import json
import ssl
import sys
from typing import Any


def answer(text: str | bytes) -> tuple[str, dict[str, Any]]:
    """The answer to a call, and the call."""
    call = json.loads(text)
    method = call["method"]
    result: Any = 840_000
    if method == "echo" or method == "broadcast":
        result = call["params"][0]
    return json.dumps({"jsonrpc": "2.0", "result": result, "id": call["id"]}), call


def events(call: dict[str, Any]) -> list[str]:
    """What a call `broadcast` of count and size is to send to all others."""
    if call["method"] != "broadcast":
        return []
    count, size = call["params"]
    return ["x" * size] * count


def tls_context() -> ssl.SSLContext | None:
    """The context for certificate and key of the command line, if they are there."""
    if len(sys.argv) < 4:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*sys.argv[2:4])
    return context

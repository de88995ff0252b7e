from __future__ import annotations

import base64
import http.client
import json
from typing import Any

from dilithion_ws import WebSocketServer


def authorization(name: str, password: str | None = None) -> dict[str, str]:
    text = f"{name}:{name * 2 if password is None else password}"
    return {"Authorization": "Basic " + base64.b64encode(text.encode()).decode()}


def request(
    server: WebSocketServer, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        data = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
        connection.request(method, path, data, headers or {})
        response = connection.getresponse()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
    finally:
        connection.close()

"""See scripts/compare."""

from __future__ import annotations

import argparse
import base64
import json
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from dilithion_ws import Config
from dilithion_ws.gateway import Gateway, GatewayConfig
from tests.support.comparison import DILITHION_CALLS, compare, core_calls

_DEADLINE = 30.0


class HttpNode:
    """Sends bodies to a URL."""

    def __init__(self, url: str, account: str = "") -> None:
        self._url = url
        self._headers = {"X-Dilithion-RPC": "1", "Content-Type": "application/json"}
        if account:
            self._headers["Authorization"] = "Basic " + base64.b64encode(account.encode()).decode()

    def post(self, path: str, body: bytes) -> tuple[int, Any]:
        """Return status and answer."""
        request = urllib.request.Request(self._url.rstrip("/") + path, body, self._headers)
        try:
            with urllib.request.urlopen(request, timeout=_DEADLINE) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            text = error.read()
            try:
                return error.code, json.loads(text)
            except ValueError:
                return error.code, {"error": text.decode("utf-8", "replace")}


def main() -> int:
    """Compare, and print what differs. Return the exit status."""
    parser = argparse.ArgumentParser(usage="scripts/compare URL [--cookie FILE | --user USER]")
    parser.add_argument("url")
    parser.add_argument("--cookie", default="")
    parser.add_argument("--user", default="")
    options = parser.parse_args()
    account = f"{options.user}:{sys.stdin.readline().rstrip()}" if options.user else ""
    if options.cookie:
        account = Path(options.cookie).read_text().strip()
    user, _, password = account.partition(":")
    config = GatewayConfig(upstream=options.url, upstream_user=user, upstream_password=password)
    node = HttpNode(options.url, account)
    with Gateway(config, Config(insecure=True)) as gateway:
        begin = time.monotonic()
        while gateway.node.dialect is None:
            if time.monotonic() - begin > _DEADLINE:
                print("the node can't be reached", file=sys.stderr)
                return 2
            time.sleep(0.1)
        calls = core_calls(node) if gateway.node.dialect.name == "core" else list(DILITHION_CALLS)
        through = HttpNode(f"http://127.0.0.1:{gateway.server.port}")
        found = list(compare(node, calls, gateway.server.url, lambda body: through.post("/", body)))
    for one in found:
        print(f"{one.reason or 'NO REASON'}: {one.method} {json.dumps(one.params)} by {one.way}")
        if not one.reason:
            print(f"  direct:  {one.direct}\n  through: {one.through}")
    counts = Counter(one.reason or "NO REASON" for one in found)
    print(f"{len(calls)} calls, each by POST and over a WebSocket: {len(found)} differences {dict(counts)}")
    return 1 if counts["NO REASON"] else 0


if __name__ == "__main__":
    sys.exit(main())

"""Pass HTTP requests beside JSON-RPC on to the node: the REST interfaces, the node's own pages, and its metrics.

What a client may do is decided here, as for calls: by its permissions, and by rates of its own. The node sees one client.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Protocol

from .. import HttpCall, HttpReply, RpcError, WebSocketServer
from .dialects.base import Dialect
from .gateway_config import GatewayConfig
from .response_parser import UpstreamReply
from .shared_reads import Read, SharedReads
from .upstream_errors import UpstreamError, UpstreamErrorKind

__all__ = ["GatewayView", "HttpRequester", "NodeRoutes"]

_API = "/api/v1/"
_ADDRESSED = re.compile(r"(balance|utxos|tx)/[A-Za-z0-9]{1,128}")
_PAGES = ("/wallet", "/wallet.html", "/miner", "/miner.html")
_STATISTICS = ("/api/stats", "/api/health")
_REST = "/rest/"
_REST_PATH = re.compile(r"/rest(/[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}){1,40}")
_REST_QUERY = re.compile(r"[A-Za-z0-9=&_.-]{0,256}")
_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'self' 'unsafe-inline' data:; connect-src 'self'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}
_TIMEOUT = 30.0
_METRICS_TIMEOUT = 5.0
_FOREIGN_METRIC = re.compile(rb"(?:# (?:HELP|TYPE) )?(dilithion_(?!ws_|gateway_)\w+)")
_STATUS = {
    UpstreamErrorKind.BUSY: 503,
    UpstreamErrorKind.DOWN: 502,
    UpstreamErrorKind.LIMITED: 429,
    UpstreamErrorKind.TOO_LARGE: 502,
}
_NODE_BUSY, _NOT_FOUND = 2001, 4004
"""Error codes of the node's REST interface."""


class HttpRequester(Protocol):
    """Sends requests. See `HttpUpstream.request`."""

    def request(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str], timeout: float
    ) -> UpstreamReply: ...


class GatewayView(Protocol):
    """What the gateway knows of the node."""

    def dialect(self) -> Dialect | None:
        """Return the node's dialect, or None if it is not known yet."""

    def tip_version(self) -> Hashable | None:
        """Return what changes with the tip, or None if that is not known."""

    def mempool_version(self) -> Hashable | None:
        """Return what changes with the tip or the mempool, or None if they are not known."""

    def clock(self) -> float:
        """Return seconds that never go backwards."""

    def look_at_node(self) -> None:
        """Have the node polled soon."""


class NodeRoutes:
    """The routes of a gateway.

    Args:
        node: the port of the node's JSON-RPC.
        statistics: the port of its statistics.
        reads: shares what was read.
        view: knows the node's dialect and state.
    """

    def __init__(self, node: HttpRequester, statistics: HttpRequester, reads: SharedReads, view: GatewayView) -> None:
        self._node = node
        self._statistics = statistics
        self._reads = reads
        self._view = view

    def register(self, server: WebSocketServer, config: GatewayConfig) -> None:
        """Add the configured routes to a server."""
        public = config.public_api
        if "api" in config.routes:
            reads, write = "READ_BLOCKCHAIN", "WRITE_MEMPOOL"
            for name in ("info", "fee", "balance/", "utxos/", "tx/"):
                rate = "api/v1/" + name.rstrip("/")
                server.routes.add(_API + name, self._api, permission=reads, is_public=public, rate=rate)
            server.routes.add(
                _API + "broadcast",
                self._broadcast,
                methods=("POST",),
                permission=write,
                is_public=public,
                rate="api/v1/broadcast",
            )
            server.gauges.add_text(self._metrics)
        if "pages" in config.routes:
            for path in _PAGES:
                server.routes.add(path, self._page, is_public=True)
            for path in _STATISTICS:
                server.routes.add(path, self._statistic, permission="READ_BLOCKCHAIN", is_public=public)
        if "rest" in config.routes:
            server.routes.add(_REST, self._rest, permission="READ_BLOCKCHAIN", is_public=public)

    def _api(self, call: HttpCall) -> HttpReply:
        if not (call.path in _FIXED or _ADDRESSED.fullmatch(call.path.removeprefix(_API))):
            return _NOTHING
        return self._refuse("dilithion") or self._get(self._node, call.path, self._view.mempool_version())

    def _broadcast(self, call: HttpCall) -> HttpReply:
        refusal = self._refuse("dilithion")
        if refusal is not None:
            return refusal

        def send() -> UpstreamReply:
            headers = {"Content-Type": "application/json"}
            return self._node.request("POST", call.path, call.body, headers, _TIMEOUT)

        return _reply(lambda: self._reads.write(send))

    def _page(self, call: HttpCall) -> HttpReply:
        reply = self._refuse("dilithion") or self._get(self._node, call.path)
        return HttpReply(reply.body, reply.content_type, reply.status, _PAGE_HEADERS)

    def _statistic(self, call: HttpCall) -> HttpReply:
        return self._refuse("dilithion") or self._get(self._statistics, call.path)

    def _rest(self, call: HttpCall) -> HttpReply:
        if not _REST_PATH.fullmatch(call.path) or not _REST_QUERY.fullmatch(call.query):
            return _NOTHING
        target = f"{call.path}?{call.query}" if call.query else call.path
        return self._refuse("core") or self._get(self._node, target)

    def _refuse(self, name: str) -> HttpReply | None:
        """Return the answer if the node is not known to be of the kind that has a path."""
        dialect = self._view.dialect()
        if dialect is None:
            return _error(503, _NODE_BUSY, "the node has not been reached yet")
        return None if dialect.name == name else _NOTHING

    def _get(self, requester: HttpRequester, target: str, version: Hashable | None = None) -> HttpReply:
        """Return what the node answers to a path, which was checked: it has no segment that leads elsewhere."""

        def fetch() -> UpstreamReply:
            return requester.request("GET", target, None, {}, _TIMEOUT)

        wanted = Read(("GET", target), fetch, _TIMEOUT, version, _bytes_to_keep)
        return _reply(lambda: self._reads.read(wanted))

    def _metrics(self) -> bytes:
        """Return the node's own metrics, so that boards made for the node find their names."""
        if self._refuse("dilithion") is not None:
            return b""
        reply = self._statistics.request("GET", "/metrics", None, {}, _METRICS_TIMEOUT)
        if reply.status != 200:
            return b""
        return b"".join(_own_metrics(reply.body.splitlines()))


_FIXED = (_API + "info", _API + "fee")


def _own_metrics(lines: Iterable[bytes]) -> Iterable[bytes]:
    """Yield the lines about metrics of the node, whose names are not the gateway's."""
    return (line + b"\n" for line in lines if _FOREIGN_METRIC.match(line))


def _bytes_to_keep(reply: UpstreamReply) -> int:
    return len(reply.body) if reply.status == 200 else 0


def _reply(fetch: Callable[[], UpstreamReply]) -> HttpReply:
    try:
        reply = fetch()
    except UpstreamError as error:
        return _error(_STATUS.get(error.kind, 504), _NODE_BUSY, error.message)
    except RpcError as error:  # pragma: no cover - nothing else is raised
        return _error(502, _NODE_BUSY, error.message)
    kind = next((value for name, value in reply.headers.items() if name.lower() == "content-type"), "application/json")
    return HttpReply(reply.body, kind, reply.status)


def _error(status: int, code: int, message: str) -> HttpReply:
    """Return an error as the node's REST interface has it."""
    return HttpReply(json.dumps({"error": {"code": code, "message": message}}).encode(), status=status)


_NOTHING = _error(404, _NOT_FOUND, "there is nothing here")

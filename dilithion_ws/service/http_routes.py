"""HTTP routes of the host, beside JSON-RPC: such as the REST interface of a node.

A route's handler is code of the host and may block, so it runs like a slow call: in the pool, with a share of the threads
for each user or address.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence

import msgspec

from ..auth.permissions import resolve_rights
from ..errors import ConfigError
from ..session import Session
from ..util.thread_contracts import any_thread

__all__ = ["HttpCall", "HttpReply", "HttpRoute", "HttpRoutes"]

logger = logging.getLogger("dilithion_ws")

_OWN = ("/health", "/metrics", "/openrpc.json")
_METHODS = {"GET", "POST"}


class HttpCall(msgspec.Struct, frozen=True):
    """A request to a route of the host.

    Attributes:
        method: `GET` or `POST`; a HEAD request is a GET whose answer is sent without its body.
        path: with the prefix of the route, as sent.
        query: what follows the question mark, or "".
        body: the whole body.
        content_type: of the body, or "".
        session: the client.
    """

    method: str
    path: str
    query: str
    body: bytes
    content_type: str
    session: Session


class HttpReply(msgspec.Struct, frozen=True):
    """What a route answers.

    Attributes:
        body: the whole body.
        content_type: of the body.
        status: the HTTP status.
        headers: further ones, such as a content security policy, which then takes the place of the strictest one.
    """

    body: bytes
    content_type: str = "application/json"
    status: int = 200
    headers: Mapping[str, str] = {}


class HttpRoute(msgspec.Struct, frozen=True):
    """One route. See `HttpRoutes.add`."""

    prefix: str
    handler: Callable[[HttpCall], HttpReply]
    methods: frozenset[str]
    rights: int
    is_public: bool
    rate: str
    timeout: float | None

    def matches(self, path: str) -> bool:
        """Return whether a path is one of this route."""
        return path.startswith(self.prefix) if self.prefix.endswith("/") else path == self.prefix


class HttpRoutes:
    """The routes of one host. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards the replacement of `_routes`; readers need no lock
        self._routes: tuple[HttpRoute, ...] = ()

    @any_thread
    def add(
        self,
        prefix: str,
        handler: Callable[[HttpCall], HttpReply],
        *,
        methods: Sequence[str] = ("GET",),
        permission: str | None = None,
        is_public: bool = False,
        rate: str = "",
        timeout: float | None = None,
    ) -> None:
        """Serve a path.

        Args:
            prefix: a path; with a slash at its end, all paths that begin so. The longest one that fits is used.
            handler: makes the reply. It may block, and be called by several threads at once. If it raises, the client
                gets the status 500 and the log an incident.
            methods: GET, POST, or both. A POST to a route that is not public needs what keeps pages of other sites out,
                as JSON-RPC does.
            permission: what a client must be allowed, as for `RpcTable.register`. None restricts it to the role admin.
            is_public: whether clients need no login. One that sends credentials has to send right ones.
            rate: the method whose rate holds for its requests; default: the one for all others.
            timeout: seconds that a request may take, in place of the limit `call_timeout`.

        Raises:
            ConfigError: the path is in use, malformed, or the server's own.
        """
        if not prefix.startswith("/") or prefix in _OWN or not set(methods) <= _METHODS or not methods:
            raise ConfigError(f"{prefix[:64]!r} can't be a route of the host: it is malformed, or the server's own")
        rights = 0 if is_public and permission is None else resolve_rights(permission, f"the route {prefix}")
        route = HttpRoute(prefix, handler, frozenset(methods), rights, is_public, rate, timeout)
        with self._lock:
            if any(other.prefix == prefix for other in self._routes):
                raise ConfigError(f"the route {prefix[:64]!r} is in use")
            self._routes = tuple(sorted((*self._routes, route), key=lambda one: -len(one.prefix)))

    @any_thread
    def find(self, path: str) -> HttpRoute | None:
        """Return the route of a path, or None."""
        return next((route for route in self._routes if route.matches(path)), None)

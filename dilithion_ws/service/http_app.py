"""What ordinary HTTP requests get: JSON-RPC by POST as the node answers it, health, and the description of all methods.

POST has the node's rules, so that its clients need no change: Basic credentials, a header `X-Dilithion-RPC` against
forged requests, an answer (with id null) to calls without an id, 403 and 429 for calls that are denied or come too often.
Pages of foreign origins are refused, as at the upgrade; the node lets them all in.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable
from typing import Any

from .._version import __version__
from ..auth.credentials import Credentials, from_basic
from ..errors import JsonRpcCode, RpcError
from ..net.interfaces import HttpTask
from ..protocol.http import HttpRequest, HttpResponse
from ..protocol.http_connection import HttpRefusal
from ..rpc.calls import BatchCall, SingleCall
from ..rpc.context import Session
from ..rpc.dispatcher import Dispatcher
from ..rpc.later import Later
from ..rpc.messages import NULL_ID, error_answer, identify, parse_batch, parse_error, parse_request
from .access_control import AccessControl
from .authenticator import Authenticator
from .metrics import CONTENT_TYPE, MissingExtraError
from .page import page
from .refusals import CHALLENGE, UNAUTHORIZED

__all__ = ["HttpApp"]

logger = logging.getLogger("dilithion_ws")

_TEXT = "text/plain; charset=utf-8"
_CSRF = {"error": "CSRF protection: the header X-Dilithion-RPC is missing (any value will do)", "code": -32600}
_DENIED, _LIMITED = (
    b'{"jsonrpc":"2.0","error":{"code":%d' % code for code in (JsonRpcCode.PERMISSION_DENIED, JsonRpcCode.RATE_LIMITED)
)
_NODES_CODE = b'{"jsonrpc":"2.0","error":{"code":-32000'
_ALLOWED = (
    (b"Access-Control-Allow-Methods", b"POST, OPTIONS"),
    (b"Access-Control-Allow-Headers", b"Content-Type, Authorization, X-Dilithion-RPC"),
    (b"Access-Control-Max-Age", b"86400"),
)
_GUARDS = (
    (b"X-Content-Type-Options", b"nosniff"),
    (b"X-Frame-Options", b"DENY"),
    (b"Content-Security-Policy", b"default-src 'none'"),
    (b"Referrer-Policy", b"no-referrer"),
)

Route = Callable[[HttpRequest, Session], "HttpResponse | HttpTask"]


class HttpApp:
    """Answers HTTP requests.

    Args:
        keeper: decides who may come in.
        dispatcher: answers calls.
        describe: the OpenRPC document for a session.
        is_draining: whether the server is about to stop.
        metrics: the text for Prometheus.
    """

    def __init__(
        self,
        keeper: AccessControl,
        dispatcher: Dispatcher,
        describe: Callable[[Session], dict[str, Any]],
        is_draining: Callable[[], bool],
        metrics: Callable[[], bytes],
    ) -> None:
        self._keeper = keeper
        self._dispatcher = dispatcher
        self._describe = describe
        self._is_draining = is_draining
        self._metrics = metrics
        self._routes: dict[tuple[str, str], Route] = {
            ("POST", "/"): self._call,
            ("GET", "/openrpc.json"): self._openrpc,
            ("GET", "/metrics"): self._metrics_text,
        }

    def answer(self, connection_id: int, address: tuple[str, int], request: HttpRequest) -> HttpResponse | HttpTask:
        """The answer, or the work that leads to it."""
        origin = request.header(b"origin")
        unwanted = self._keeper.address_refusal(address[0])  # it may be that of a client behind a proxy
        if unwanted is not None:
            return _refused(unwanted)
        refusal = self._keeper.page_refusal(address[0], request.header(b"host") or "", origin)
        if refusal is not None:
            return _said(403, refusal)
        method = "GET" if request.method == "HEAD" else request.method
        if method == "OPTIONS":
            return HttpResponse(204, headers=(*_allowed_origin(origin), *_ALLOWED))
        if (method, request.path) == ("GET", "/health"):
            return self._health()
        if (method, request.path) == ("GET", "/") and self._keeper.serves_page:
            return page(request.header(b"host") or "")
        route = self._routes.get((method, request.path))
        if route is None:
            if method != "GET" and request.path == "/":
                return _said(405, "POST is for JSON-RPC", ((b"Allow", b"GET, HEAD, POST, OPTIONS"),))
            return _said(404, "there is nothing here")
        if method == "POST" and request.header(b"x-dilithion-rpc") is None:
            return _json(403, _CSRF, origin)
        session = Session(connection_id, address)
        self._keeper.prepare(session)
        return self._admit(session, request, route)

    def _admit(self, session: Session, request: HttpRequest, route: Route) -> HttpResponse | HttpTask:
        if not self._keeper.wants_users:
            return route(request, session)
        authorization = request.header(b"authorization")
        if authorization is None:
            return _refused(HttpRefusal(401, UNAUTHORIZED, CHALLENGE))
        outcome = self._keeper.logins.begin(session, from_basic(authorization))
        if outcome is None:
            return route(request, session)
        if isinstance(outcome, HttpRefusal):
            return _refused(outcome)
        return _Login(self._keeper.logins, outcome, session, lambda: route(request, session))

    # Routes

    def _health(self) -> HttpResponse:
        draining = self._is_draining()
        return _json(503 if draining else 200, {"live": True, "ready": not draining, "version": __version__})

    def _openrpc(self, request: HttpRequest, session: Session) -> HttpResponse:
        return _json(200, self._describe(session), request.header(b"origin"))

    def _metrics_text(self, request: HttpRequest, session: Session) -> HttpResponse:
        try:
            return HttpResponse(200, self._metrics(), CONTENT_TYPE, _GUARDS)
        except MissingExtraError as error:
            return _said(501, str(error))

    def _call(self, request: HttpRequest, session: Session) -> HttpResponse | HttpTask:
        origin = request.header(b"origin")
        if session.limited:
            self._keeper.heard(session, len(request.body))
        refusal = self._keeper.message_refusal(session)
        if refusal is not None:
            return _answered(error_answer(identify(request.body), refusal), origin)
        try:
            request.body.decode()
        except UnicodeDecodeError as error:
            return _answered(error_answer(NULL_ID, parse_error(str(error))), origin)
        found = self._dispatcher.receive(self._with_ids(request.body), session)
        if found is None or isinstance(found, bytes):
            return _answered(found, origin)
        return _Calling(found, origin)

    def _with_ids(self, body: bytes) -> bytes:
        """The message with `"id":null` where it has none: over HTTP the node answers every call."""
        limits = self._dispatcher.limits
        try:
            if body.lstrip(b" \t\r\n")[:1] == b"[":
                return b"[%b]" % b",".join(map(self._with_id, parse_batch(body, limits)))
            return self._with_id(body)
        except RpcError:
            return body  # the dispatcher says what is wrong with it

    def _with_id(self, body: bytes) -> bytes:
        try:
            if not parse_request(body, self._dispatcher.limits).is_notification:
                return body
        except RpcError:
            return body
        return body.rstrip(b" \t\r\n")[:-1] + b',"id":null}'


class _Login:
    """A password that is to be checked before a request is answered."""

    def __init__(
        self,
        logins: Authenticator,
        credentials: Credentials,
        session: Session,
        then: Callable[[], HttpResponse | HttpTask],
    ) -> None:
        self._logins = logins
        self._credentials = credentials
        self.session = session
        self._then = then

    def run(self) -> HttpResponse | HttpTask:
        """Checks it; slow."""
        refusal = self._logins.check(self._credentials, self.session)
        return self._then() if refusal is None else _refused(refusal)


class _Calling:
    """A call, or a batch, that is to be run."""

    session = None

    def __init__(self, call: SingleCall | BatchCall, origin: str | None) -> None:
        self._call = call
        self._origin = origin

    def run(self) -> HttpResponse | _Waiting:
        """Runs it."""
        answer = self._call.run()
        if isinstance(answer, Later):
            return _Waiting(answer, self._origin)
        for hook in self._call.hooks or ():
            hook(False)  # there is no connection that could be sent to afterwards
        return _answered(answer, self._origin)


class _Waiting:
    """An answer that is not there yet."""

    session = None

    def __init__(self, later: Later, origin: str | None) -> None:
        self._later = later
        self._origin = origin

    def deliver_to(self, deliver: Callable[[HttpResponse], None]) -> None:
        """Has the response delivered when there is one."""
        self._later.deliver_to(lambda answer: deliver(_answered(answer, self._origin)))


def _answered(answer: bytes | None, origin: str | None) -> HttpResponse:
    """The response to an answer: statuses and codes of the node where a call was denied or came too often."""
    headers = (*_allowed_origin(origin), *_GUARDS)
    if answer is None:
        return HttpResponse(204, headers=headers)
    status = 200
    if answer.startswith(_DENIED):
        status, answer = 403, _NODES_CODE + answer[len(_DENIED) :]
    elif answer.startswith(_LIMITED):
        wait = json.loads(answer)["error"]["data"]["retry_after_ms"]
        headers = (*headers, (b"Retry-After", b"%d" % math.ceil(wait / 1000)))
        status, answer = 429, _NODES_CODE + answer[len(_LIMITED) :]
    return HttpResponse(status, answer, headers=headers)


def _refused(refusal: HttpRefusal) -> HttpResponse:
    return _said(refusal.status, refusal.message, refusal.headers)


def _allowed_origin(origin: str | None) -> tuple[tuple[bytes, bytes], ...]:
    """An origin that got this far is allowed; who sends none is no page, and is told what the node tells."""
    if origin is None:
        return ((b"Access-Control-Allow-Origin", b"*"),)
    return ((b"Access-Control-Allow-Origin", origin.encode("latin-1")), (b"Vary", b"Origin"))


def _json(status: int, value: Any, origin: str | None = None) -> HttpResponse:
    return HttpResponse(status, json.dumps(value).encode(), headers=(*_allowed_origin(origin), *_GUARDS))


def _said(status: int, text: str, headers: tuple[tuple[bytes, bytes], ...] = ()) -> HttpResponse:
    return HttpResponse(status, text.encode() + b"\n", _TEXT, (*headers, *_GUARDS))

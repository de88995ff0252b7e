"""Answer ordinary HTTP requests: JSON-RPC by POST as the node answers it, health, metrics, and the OpenRPC document.

POST follows the node's rules, so its clients need no change: Basic credentials, a header `X-Dilithion-RPC` against forged
requests, an answer (with id null) to calls without an id, 403 and 429 for calls that are denied or come too often. One
rule is stricter: pages of foreign origins are refused, as at the upgrade.

`admit` decides at the head of a request: address, host, origin, rate, the header against forged requests, credentials.
The body is received from clients that pass. What costs more than a quick call is a task: rendering documents, parsing
large bodies.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

import msgspec

from .._version import __version__
from ..auth.credentials import from_authorization
from ..auth.denial import Denial, DenialKind, NeedsPassword
from ..auth.permissions import Permission
from ..errors import JsonRpcCode, RpcError
from ..net.interfaces import Address, Admission, Task
from ..protocol.http import Headers, HttpHead, HttpRequest, HttpResponse
from ..rpc.calls import BatchCall, SingleCall
from ..rpc.dispatcher import Dispatcher
from ..rpc.messages import NULL_ID, error_answer, extract_id, parse_batch, parse_error, parse_request
from ..rpc.passthrough import RawRpcError
from ..session import Session
from ..util.enums import Speed, TaskKind
from ..util.futures import Future, convert_future
from .access_control import AccessControl
from .metrics import CONTENT_TYPE, MissingExtraError, PrometheusCollector
from .openrpc import OpenRpcDocument
from .page import page
from .refusals import SECURITY_HEADERS, response_for, retry_after, text_response

__all__ = ["HttpApp", "HttpAppParts"]

_CSRF = {"error": "CSRF protection: the header X-Dilithion-RPC is missing (any value will do)", "code": -32600}
_UNAUTHORIZED = Denial(kind=DenialKind.CREDENTIALS, message="Unauthorized - Invalid or missing credentials")
_NODE_CODE = -32000
"""The error code of denied calls over HTTP, as the node has it."""
_DENIED_STATUS = {int(JsonRpcCode.PERMISSION_DENIED): 403, int(JsonRpcCode.RATE_LIMITED): 429}
_RETRY = ((b"Retry-After", b"1"),)
_PREFLIGHT_HEADERS = (
    (b"Access-Control-Allow-Methods", b"POST, OPTIONS"),
    (b"Access-Control-Allow-Headers", b"Content-Type, Authorization, X-Dilithion-RPC"),
    (b"Access-Control-Max-Age", b"86400"),
)

Route = Callable[[HttpRequest, Session], "HttpResponse | Task[HttpResponse]"]


class ServerState(Protocol):
    """Whether the server is stopping. Implemented by `net.connection_registry.ConnectionRegistry`."""

    is_stopping: bool


class HttpAppParts(msgspec.Struct, frozen=True):
    """What answers requests.

    Attributes:
        access: decides what clients may do.
        dispatcher: answers JSON-RPC.
        openrpc: generates the OpenRPC document.
        metrics: renders the statistics.
        state: whether the server is stopping.
        serves_page: whether `GET /` is the page for browsers.
    """

    access: AccessControl
    dispatcher: Dispatcher
    openrpc: OpenRpcDocument
    metrics: PrometheusCollector
    state: ServerState
    serves_page: bool


class HttpApp:
    """Answers HTTP requests.

    Args:
        parts: what it answers them with.
    """

    def __init__(self, parts: HttpAppParts) -> None:
        self._access = parts.access
        self._dispatcher = parts.dispatcher
        self._openrpc = parts.openrpc
        self._metrics = parts.metrics
        self._state = parts.state
        self._serves_page = parts.serves_page
        self._limits = parts.dispatcher.executor.limits
        self._routes: dict[tuple[str, str], Route] = {
            ("POST", "/"): self._call,
            ("GET", "/openrpc.json"): self._openrpc_document,
            ("GET", "/metrics"): self._metrics_text,
        }

    def admit(
        self, connection_id: int, address: Address, request: HttpHead, certificate: bytes = b""
    ) -> HttpResponse | Admission | Task[HttpResponse | Admission]:
        """Return the response to a request that can be answered from its head, or who may send its body."""
        access, origin = self._access, request.header(b"origin")
        host = request.header(b"host") or ""
        # The address may be that of a client behind a proxy, which was not checked when the proxy connected.
        denial = access.check_address(address[0]) or access.check_origin(address[0], host, origin)
        if denial is not None:
            return response_for(denial)
        session = access.make_session(connection_id, address)
        denial = access.check_request(session)
        if denial is not None:
            is_post = request.method == "POST"
            response = _denied_response(NULL_ID, denial, origin) if is_post else response_for(denial)
            return replace(response, ends=True)  # so that the limits for connections hold up a client that goes on
        method = "GET" if request.method == "HEAD" else request.method
        target = (method, request.path)
        if method == "OPTIONS":
            return HttpResponse(204, headers=(*_cors_headers(origin), *_PREFLIGHT_HEADERS))
        if target == ("GET", "/health"):
            return self._health()
        if target == ("GET", "/") and self._serves_page:
            return page(host)
        route = self._routes.get(target)
        if route is None:
            if method != "GET" and request.path == "/":
                return text_response(405, "POST is for JSON-RPC", ((b"Allow", b"GET, HEAD, POST, OPTIONS"),))
            return text_response(404, "there is nothing here")
        if method == "POST" and request.header(b"x-dilithion-rpc") is None:
            return _json_response(403, _CSRF, origin)
        return self._authenticate(session, request, Admission(session, route), certificate)

    def answer(self, admission: Admission, request: HttpRequest) -> HttpResponse | Task[HttpResponse]:
        """Return the response to an admitted request, or the task that leads to it."""
        route: Route = admission.route
        return route(request, admission.session)

    def _authenticate(
        self, session: Session, request: HttpHead, admission: Admission, certificate: bytes
    ) -> HttpResponse | Admission | Task[HttpResponse | Admission]:
        if not self._access.requires_login:
            return admission
        if request.header(b"sec-fetch-site") == "cross-site" and request.header(b"origin") is None:
            return text_response(403, "another site's page led here; enter the address yourself")
        authorization = request.header(b"authorization")
        if authorization is None:
            if certificate and self._access.authenticator.log_in_by_certificate(session, certificate):
                return admission
            return response_for(_UNAUTHORIZED)
        decision = self._access.authenticator.check_credentials(session, from_authorization(authorization))
        if isinstance(decision, Denial):
            return response_for(decision)
        if isinstance(decision, NeedsPassword):
            return _LoginTask(self._access, decision, admission)
        return admission

    # Routes

    def _health(self) -> HttpResponse:
        stopping = self._state.is_stopping
        return _json_response(503 if stopping else 200, {"live": True, "ready": not stopping, "version": __version__})

    def _openrpc_document(self, request: HttpRequest, session: Session) -> Task[HttpResponse]:
        origin = request.header(b"origin")
        return _RouteTask(session, lambda: _json_response(200, self._openrpc.render(session), origin))

    def _metrics_text(self, request: HttpRequest, session: Session) -> HttpResponse | Task[HttpResponse]:
        denial = self._access.check_right(session, Permission.READ_METRICS, "/metrics")
        if denial is not None:
            return text_response(403, denial.message)
        return _RouteTask(session, self._render_metrics)  # gauges are code of the host

    def _render_metrics(self) -> HttpResponse:
        try:
            return HttpResponse(200, self._metrics.render(), CONTENT_TYPE, SECURITY_HEADERS)
        except MissingExtraError as error:
            return text_response(501, str(error))

    def _call(self, request: HttpRequest, session: Session) -> HttpResponse | Task[HttpResponse]:
        if len(request.body) > self._limits.messages.inline_message_size:
            return _RouteTask(session, lambda: self._parse_large_call(request, session))
        return self._parse_call(request, session)

    def _parse_large_call(self, request: HttpRequest, session: Session) -> HttpResponse | Task[HttpResponse]:
        self._access.charge_values(session, request.body)
        refusal = self._dispatcher.refuse_large(request.body, session)
        if refusal is None:
            return self._parse_call(request, session)
        return _rpc_response(refusal, request.header(b"origin"))

    def _parse_call(self, request: HttpRequest, session: Session) -> HttpResponse | Task[HttpResponse]:
        body, origin = request.body, request.header(b"origin")
        try:
            body.decode()
        except UnicodeDecodeError as error:
            return _rpc_response(error_answer(NULL_ID, parse_error(str(error))), origin)
        call = self._dispatcher.receive(self._with_ids(body), session)
        if call is None or isinstance(call, bytes):
            if session.denial is not None:
                return _denied_response(extract_id(body), session.denial, origin)
            return _rpc_response(call, origin)
        return _CallTask(call, origin)

    def _with_ids(self, body: bytes) -> bytes:
        """Return a message with `"id":null` in requests without an id, since the node answers every call over HTTP."""
        try:
            if body.lstrip(b" \t\r\n")[:1] == b"[":
                return b"[%b]" % b",".join(map(self._with_id, parse_batch(body, self._limits)))
            return self._with_id(body)
        except RpcError:
            return body  # the dispatcher reports what is wrong with it

    def _with_id(self, body: bytes) -> bytes:
        try:
            if not parse_request(body, self._limits).is_notification:
                return body
        except RpcError:
            return body
        return body.rstrip(b" \t\r\n")[:-1] + b',"id":null}'


class _RouteTask:
    """Answers a request in the pool, since that costs too much for the leading thread, or runs code of the host."""

    speed = Speed.SLOW
    is_serial = True
    kind = TaskKind.REQUEST
    hooks = None

    def __init__(self, session: Session, route: Callable[[], HttpResponse | Task[HttpResponse]]) -> None:
        self.session = session
        self._route = route

    def run(self) -> HttpResponse | Task[HttpResponse]:
        """Answer it."""
        return self._route()

    def refuse(self, reason: str) -> HttpResponse:
        """Return the response if no worker can answer it."""
        return text_response(503, reason, _RETRY)

    def expire(self) -> HttpResponse:
        """Return the response after the deadline."""
        return self.refuse("the time is over")

    def on_stall(self) -> None:
        """Do nothing: it never runs in the leading thread."""


class _LoginTask:
    """Verifies the password of a request."""

    speed = Speed.SLOW
    is_serial = True
    kind = TaskKind.LOGIN
    hooks = None

    def __init__(self, access: AccessControl, credentials: NeedsPassword, admission: Admission) -> None:
        self._access = access
        self._credentials = credentials
        self._admission = admission
        self.session = admission.session

    def run(self) -> HttpResponse | Admission:
        """Verify the password."""
        denial = self._access.authenticator.verify_credentials(self.session, self._credentials)
        return self._admission if denial is None else response_for(denial)

    def refuse(self, reason: str) -> HttpResponse:
        """Return the response if no worker can verify it."""
        return text_response(503, reason, _RETRY)

    def expire(self) -> HttpResponse:
        """Return the response after the deadline."""
        return self.refuse("the time is over")

    def on_stall(self) -> None:
        """Do nothing: it never runs in the leading thread."""


class _CallTask:
    """Runs a call, or a batch, and makes a response of its answer."""

    is_serial = True
    hooks = None

    def __init__(self, call: SingleCall | BatchCall, origin: str | None) -> None:
        self._call = call
        self._origin = origin
        self.session = call.session
        self.speed = call.speed
        self.kind = TaskKind.REQUEST if call.speed < Speed.SLOW else call.kind

    def run(self) -> HttpResponse | Future[HttpResponse]:
        """Run it."""
        answer = self._call.run()
        if isinstance(answer, Future):
            return convert_future(answer, self._respond)
        return self._respond(answer)

    def _respond(self, answer: bytes | None) -> HttpResponse:
        for hook in self._call.hooks or ():
            hook(False)  # there is no connection on which messages could follow the answer
        error = self._call.error if isinstance(self._call, SingleCall) else None
        if error is not None and error.code in _DENIED_STATUS:
            return _error_response(self._call.id or NULL_ID, error, self._origin)  # type: ignore[union-attr]
        return _rpc_response(answer, self._origin)

    def refuse(self, reason: str) -> HttpResponse:
        """Return the response if no worker can run it."""
        return text_response(503, reason, _RETRY)

    def expire(self) -> HttpResponse:
        """Return the error for the deadline, as over a WebSocket."""
        return _rpc_response(self._call.expire(), self._origin)

    def on_stall(self) -> None:
        """Record that the call has held up its thread."""
        self._call.on_stall()


def _denied_response(id: bytes, denial: Denial, origin: str | None) -> HttpResponse:
    return _error_response(id, denial.to_rpc_error(), origin)


def _error_response(id: bytes, error: RpcError, origin: str | None) -> HttpResponse:
    """Return the response to a call that failed. Denials have the status and the code of the node."""
    headers: Headers = (*_cors_headers(origin), *SECURITY_HEADERS)
    status = _DENIED_STATUS.get(error.code, 200)
    if status == 429 and isinstance(error.data, dict) and "retry_after_ms" in error.data:
        headers = (*headers, *retry_after(error.data["retry_after_ms"] / 1000))
    if status != 200 and not isinstance(error, RawRpcError):
        steps = error.recovery_steps
        error = RpcError(_NODE_CODE, error.message, error.data, error_code=error.error_code, recovery_steps=steps)
    return HttpResponse(status, error_answer(id, error), headers=headers)


def _rpc_response(answer: bytes | None, origin: str | None) -> HttpResponse:
    headers = (*_cors_headers(origin), *SECURITY_HEADERS)
    return HttpResponse(204, headers=headers) if answer is None else HttpResponse(200, answer, headers=headers)


def _cors_headers(origin: str | None) -> Headers:
    """Return the CORS headers for an origin that was allowed. A request without one gets the node's `*`."""
    if origin is None:
        return ((b"Access-Control-Allow-Origin", b"*"),)
    return ((b"Access-Control-Allow-Origin", origin.encode("latin-1")), (b"Vary", b"Origin"))


def _json_response(status: int, value: Any, origin: str | None = None) -> HttpResponse:
    return HttpResponse(status, json.dumps(value).encode(), headers=(*_cors_headers(origin), *SECURITY_HEADERS))

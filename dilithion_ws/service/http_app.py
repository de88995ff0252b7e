"""Answer ordinary HTTP requests: JSON-RPC by POST as the node answers it, health, metrics, and the OpenRPC document.

POST follows the node's rules, so its clients need no change: Basic credentials, a header `X-Dilithion-RPC` against forged
requests, an answer (with id null) to calls without an id, 403 and 429 for calls that are denied or come too often. One
rule is stricter: pages of foreign origins are refused, as at the upgrade.

`admit` decides at the head of a request: address, host, origin, rate, the header against forged requests, credentials.
The body is received from clients that pass. What costs more than a quick call is a task: rendering documents, parsing
large bodies.
"""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import msgspec

from .._version import __version__
from ..auth.authenticator import UNAUTHORIZED
from ..auth.credentials import from_authorization
from ..auth.denial import Denial, NeedsPassword
from ..auth.permissions import Permission
from ..errors import JsonRpcCode, RpcError
from ..events.hub import EventHub
from ..net.interfaces import Address, Admission, Task
from ..protocol.http import HttpHead, HttpRequest, HttpResponse
from ..rpc.calls import OversizedBatch
from ..rpc.core_messages import read_core_request
from ..rpc.dispatcher import Dispatcher
from ..rpc.messages import NULL_ID, error_answer, extract_id, parse_batch, parse_error, parse_request
from ..session import Session
from ..util.enums import RpcDialect
from .access_control import AccessControl
from .health import HealthReports
from .host_route import HostRoute
from .http_responses import CoreResponseWriter, ResponseWriter
from .http_routes import HttpRoute, HttpRoutes
from .http_tasks import CallTask, LoginTask, RouteTask
from .metrics import CONTENT_TYPE, MissingExtraError, PrometheusCollector
from .openrpc import OpenRpcDocument
from .page import client_script, page
from .paths import wallet_of

__all__ = ["HttpApp", "HttpAppParts"]

_CSRF = {"error": "CSRF protection: the header X-Dilithion-RPC is missing (any value will do)", "code": -32600}
_MAX_QUERY = 256
_REVALIDATE = ((b"Cache-Control", b"no-cache"),)
_ALLOW = ((b"Allow", b"GET, HEAD, POST, OPTIONS"),)
_PREFLIGHT_HEADERS = (
    (b"Access-Control-Allow-Methods", b"GET, POST, OPTIONS"),
    (b"Access-Control-Allow-Headers", b"Content-Type, Authorization, X-Dilithion-RPC"),
    (b"Access-Control-Max-Age", b"86400"),
)

Route = Callable[[HttpRequest, Session, ResponseWriter], "HttpResponse | Task[HttpResponse]"]


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
        host_routes: the host's own.
        health: what the host reports for `/health`.
        events: have a store, whose state is there too.
    """

    access: AccessControl
    dispatcher: Dispatcher
    openrpc: OpenRpcDocument
    metrics: PrometheusCollector
    state: ServerState
    serves_page: bool
    host_routes: HttpRoutes
    health: HealthReports
    events: EventHub


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
        self._host_routes = parts.host_routes
        self._health_reports = parts.health
        self._events = parts.events
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
        make_writer = CoreResponseWriter if self._speaks_core else ResponseWriter
        if denial is not None:
            return make_writer(request.method, origin, is_allowed=False).denied(denial)
        writer = make_writer(request.method, origin)
        if isinstance(writer, CoreResponseWriter):
            writer.user_agent = request.header(b"user-agent") or ""
        session = access.make_session(connection_id, address)
        session.is_request = True
        session.wallet = wallet_of(request.path, self._dispatcher.table)
        denial = access.check_request(session)
        if denial is not None:
            is_post = request.method == "POST"
            response = writer.rpc_error(NULL_ID, denial.to_rpc_error()) if is_post else writer.denied(denial)
            return replace(response, ends=True)  # so that the limits for connections hold up a client that goes on
        method = "GET" if request.method == "HEAD" else request.method
        target = (method, request.path if session.wallet is None else "/")
        if method == "OPTIONS":
            return writer.empty(_ALLOW if request.path == "*" else _PREFLIGHT_HEADERS)
        if target == ("GET", "/health"):
            return self._health(writer, request.target.partition("?")[2])
        found = None if session.wallet is not None else self._host_routes.find(request.path)
        route = self._routes.get(target)
        if found is not None and (route is None or target == ("GET", "/")):
            return self._admit_to_host(request, Admission(session, (found, writer), writer.cors), method, certificate)
        if target == ("GET", "/") and self._serves_page and session.wallet is None:
            return page(host)
        if target == ("GET", "/client.js") and self._serves_page:
            return writer.response(200, client_script(), "text/javascript; charset=utf-8", _REVALIDATE)
        if route is None:
            if method != "GET" and target[1] == "/":
                return writer.error(405, "POST is for JSON-RPC", _ALLOW)
            return writer.error(404, "there is nothing here")
        if method == "POST" and self._may_be_forged(request):
            return writer.json(403, _CSRF)
        if (request.header(b"content-encoding") or "identity").lower() != "identity":
            return writer.error(415, "the body must not be compressed", ((b"Accept-Encoding", b"identity"),))
        return self._authenticate(request, Admission(session, (route, writer), writer.cors), certificate)

    def _admit_to_host(
        self, request: HttpHead, admission: Admission, method: str, certificate: bytes
    ) -> HttpResponse | Admission | Task[HttpResponse | Admission]:
        """Decide on a request for a route of the host."""
        route: HttpRoute = admission.route[0]
        writer: ResponseWriter = admission.route[1]
        if method not in route.methods:
            allowed = ", ".join(sorted({*route.methods, "OPTIONS", *({"HEAD"} if "GET" in route.methods else ())}))
            return writer.error(405, f"{route.prefix} takes {allowed}", ((b"Allow", allowed.encode()),))
        if method == "POST" and not route.is_public and self._may_be_forged(request):
            return writer.json(403, _CSRF)
        answer = HostRoute(route, self._access, request)
        admitted = Admission(admission.session, (answer, writer), writer.cors)
        if route.is_public and request.header(b"authorization") is None:
            admission.session.rights = route.rights
            return admitted
        return self._authenticate(request, admitted, certificate)

    @property
    def _speaks_core(self) -> bool:
        return self._dispatcher.table.dialect is RpcDialect.CORE

    def _may_be_forged(self, request: HttpHead) -> bool:
        """Return whether a browser may have sent a POST for a page of another site.

        A page can send neither the header nor a body of JSON to another origin unless a preflight request allows it, and
        browsers name the origin with every POST, which was checked. Clients of Bitcoin Core send whatever type they like.
        """
        if request.header(b"x-dilithion-rpc") is not None:
            return False
        if request.header(b"sec-fetch-site") in ("cross-site", "same-site"):
            return True
        if self._speaks_core:
            return False
        kind = (request.header(b"content-type") or "").partition(";")[0].strip().lower()
        return request.header(b"origin") is not None or kind != "application/json"

    def answer(self, admission: Admission, request: HttpRequest) -> HttpResponse | Task[HttpResponse]:
        """Return the response to an admitted request, or the task that leads to it."""
        (route, writer), session = admission.route, admission.session
        if session.user is not None:  # the users may have changed while the body was sent
            self._access.authenticator.refresh_rights(session)
            if not session.is_authorized:
                denied: HttpResponse = writer.denied(UNAUTHORIZED)
                return denied
        response: HttpResponse | Task[HttpResponse] = route(request, session, writer)
        return response

    def _authenticate(
        self, request: HttpHead, admission: Admission, certificate: bytes
    ) -> HttpResponse | Admission | Task[HttpResponse | Admission]:
        session = admission.session
        writer: ResponseWriter = admission.route[1]
        if not self._access.requires_login:
            return admission
        if request.header(b"sec-fetch-site") == "cross-site" and request.header(b"origin") is None:
            return writer.error(403, "another site's page led here; enter the address yourself")
        authorization, authenticator = request.header(b"authorization"), self._access.authenticator
        if authorization is None:
            if certificate and authenticator.log_in_by_certificate(session, certificate):
                return admission
            return writer.denied(UNAUTHORIZED)
        decision = authenticator.check_credentials(session, from_authorization(authorization))
        if isinstance(decision, Denial):
            return writer.denied(decision)
        if isinstance(decision, NeedsPassword):
            return LoginTask(self._access, decision, admission, writer)
        return admission

    # Routes

    def _health(self, writer: ResponseWriter, query: str) -> HttpResponse:
        stopping, reports = self._state.is_stopping, dict(self._health_reports.all())
        store = self._events.store_status
        if store is not None:
            reports["store"] = {
                "kind": store.kind,
                "good": not store.fault,
                "fault": store.fault,
                "damaged": store.damaged,
            }
        parts = [part.partition("=") for part in query[:_MAX_QUERY].split("&")]
        asked = [name for name, equals, value in parts if name and (not equals or value == "1")]
        # What was not reported is not known to be good: a gateway may not have polled its node yet.
        is_good = not stopping and all(name in reports and reports[name]["good"] for name in asked)
        state = {"live": True, "ready": not stopping, "version": __version__, **reports}
        return writer.json(200 if is_good else 503, state)

    def _openrpc_document(self, request: HttpRequest, session: Session, writer: ResponseWriter) -> Task[HttpResponse]:
        return RouteTask(session, writer, lambda: writer.json(200, self._openrpc.render(session)))

    def _metrics_text(
        self, request: HttpRequest, session: Session, writer: ResponseWriter
    ) -> HttpResponse | Task[HttpResponse]:
        denial = self._access.check_right(session, Permission.READ_METRICS, "/metrics")
        if denial is not None:
            return writer.denied(denial)
        return RouteTask(session, writer, lambda: self._render_metrics(writer))  # gauges are code of the host

    def _render_metrics(self, writer: ResponseWriter) -> HttpResponse:
        try:
            return writer.response(200, self._metrics.render(), CONTENT_TYPE)
        except MissingExtraError as error:
            return writer.error(501, str(error))

    def _call(
        self, request: HttpRequest, session: Session, writer: ResponseWriter
    ) -> HttpResponse | Task[HttpResponse]:
        if len(request.body) > self._limits.messages.inline_message_size:
            return RouteTask(session, writer, lambda: self._parse_large_call(request.body, session, writer))
        return self._parse_call(request.body, session, writer)

    def _parse_large_call(
        self, body: bytes, session: Session, writer: ResponseWriter
    ) -> HttpResponse | Task[HttpResponse]:
        self._access.charge_values(session, body)
        refusal = self._dispatcher.refuse_large(body, session)
        return self._parse_call(body, session, writer) if refusal is None else writer.answer(refusal)

    def _parse_call(self, body: bytes, session: Session, writer: ResponseWriter) -> HttpResponse | Task[HttpResponse]:
        body = body.removeprefix(BOM_UTF8)  # the node takes it
        try:
            body.decode()
        except UnicodeDecodeError as error:
            return writer.answer(error_answer(NULL_ID, parse_error(str(error))))
        if isinstance(writer, CoreResponseWriter):
            writer.request = read_core_request(body, self._limits, writer.user_agent)
            body = writer.request.body
            if body == b"[]":
                return writer.response(200, body, "application/json")  # as Core has it
        else:
            try:
                body = self._with_ids(body)
            except RpcError as error:
                return writer.answer(error_answer(NULL_ID, error))
        call = self._dispatcher.receive(body, session)
        if isinstance(call, OversizedBatch):
            call = call.refuse("")  # over HTTP a request has one status, and one error
        if call is None or isinstance(call, bytes):
            if session.denial is not None:
                return writer.rpc_error(extract_id(body), session.denial.to_rpc_error())
            return writer.answer(call)
        return CallTask(call, writer)

    def _with_ids(self, body: bytes) -> bytes:
        """Return a message with `"id":null` in requests without an id, since the node answers every call over HTTP."""
        try:
            if body.lstrip(b" \t\r\n")[:1] == b"[":
                return b"[%b]" % b",".join(map(self._with_id, parse_batch(body, self._limits)))
            return self._with_id(body)
        except RpcError as error:
            if error.code != JsonRpcCode.BATCH_TOO_LARGE:
                return body  # the dispatcher reports what is wrong with it
            error.code = JsonRpcCode.INVALID_REQUEST  # as the node has it
            raise

    def _with_id(self, body: bytes) -> bytes:
        try:
            if not parse_request(body, self._limits).is_notification:
                return body
        except RpcError:
            return body
        return body.rstrip(b" \t\r\n")[:-1] + b',"id":null}'

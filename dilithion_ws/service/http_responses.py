"""Write the responses to one request: with CORS headers, and in the form that its client understands.

A client that speaks JSON-RPC, which is one that uses POST, gets JSON for errors, too, as the node has them.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

from ..auth.denial import Denial, DenialKind
from ..errors import JsonRpcCode, RpcError
from ..protocol.http import Headers, HttpRefusal, HttpResponse, error_body
from ..rpc.core_messages import CoreRequest, core_answer
from ..rpc.messages import NULL_ID, error_answer
from ..rpc.passthrough import RawRpcError

__all__ = ["DENIED_CODES", "CoreResponseWriter", "ResponseWriter", "refusal_for"]

_CHALLENGE = ((b"WWW-Authenticate", b'Basic realm="Dilithion RPC", charset="UTF-8"'),)
_STATUS = {
    DenialKind.ADDRESS: 403,
    DenialKind.ORIGIN: 403,
    DenialKind.CREDENTIALS: 401,
    DenialKind.NOT_AUTHENTICATED: 401,
    DenialKind.PERMISSION: 403,
    DenialKind.RATE: 429,
    DenialKind.LOCKED_OUT: 429,
}
_STATUS_OF_CODE = {int(JsonRpcCode.PERMISSION_DENIED): 403, int(JsonRpcCode.RATE_LIMITED): 429}
DENIED_CODES = frozenset(_STATUS_OF_CODE)
"""Codes of errors that have an HTTP status of their own."""

_NODE_CODE = -32000
"""The error code of denied calls over HTTP, as the node has it."""
_CODE_OF_STATUS = {
    401: JsonRpcCode.NOT_AUTHENTICATED,
    403: JsonRpcCode.PERMISSION_DENIED,
    429: JsonRpcCode.RATE_LIMITED,
    503: JsonRpcCode.SERVER_BUSY,
}
_UNREAD = CoreRequest(b"")
_SECURITY_HEADERS = (
    (b"X-Content-Type-Options", b"nosniff"),
    (b"X-Frame-Options", b"DENY"),
    (b"Content-Security-Policy", b"default-src 'none'"),
    (b"Referrer-Policy", b"no-referrer"),
)
_RETRY = ((b"Retry-After", b"1"),)


def refusal_for(denial: Denial) -> HttpRefusal:
    """Return the response to an upgrade, or to a connection, that is denied."""
    return HttpRefusal(_STATUS[denial.kind], denial.message, _denial_headers(denial))


class ResponseWriter:
    """Writes the responses to one request.

    Args:
        method: of the request.
        origin: its Origin header, or None.
        is_allowed: whether pages of that origin may read the responses.
    """

    __slots__ = ("_cors", "_speaks_json")

    def __init__(self, method: str, origin: str | None, is_allowed: bool = True) -> None:
        self._speaks_json = method == "POST"
        self._cors: Headers = ((b"Vary", b"Origin"),)
        if is_allowed:  # a request without an origin gets the node's `*`
            allowed = b"*" if origin is None else origin.encode("latin-1")
            self._cors = ((b"Access-Control-Allow-Origin", allowed), *self._cors)

    @property
    def cors(self) -> Headers:
        """Headers of every response: who may read it."""
        return self._cors

    def response(self, status: int, body: bytes, content_type: str, headers: Headers = ()) -> HttpResponse:
        """Return a response with any content."""
        given = {name.lower() for name, _ in headers}
        usual = (header for header in _SECURITY_HEADERS if header[0].lower() not in given)
        return HttpResponse(status, body, content_type, (*self._cors, *headers, *usual))

    def empty(self, headers: Headers = ()) -> HttpResponse:
        """Return a response without content."""
        return self.response(204, b"", "", headers)

    def json(self, status: int, value: Any) -> HttpResponse:
        """Return a response with a value as JSON."""
        return self.response(status, json.dumps(value).encode(), "application/json")

    def error(self, status: int, message: str, headers: Headers = ()) -> HttpResponse:
        """Return an error that is not one of JSON-RPC."""
        content_type, body = error_body(message, self._speaks_json)
        return self.response(status, body, content_type, headers)

    def unavailable(self, reason: str) -> HttpResponse:
        """Return the response to a request that no thread can answer now."""
        return self.error(503, reason, _RETRY)

    def denied(self, denial: Denial) -> HttpResponse:
        """Return the response to a request that is denied."""
        return self.error(_STATUS[denial.kind], denial.message, _denial_headers(denial))

    def answer(self, answer: bytes | None) -> HttpResponse:
        """Return the response with an answer of JSON-RPC, or without one."""
        return self.empty() if answer is None else self.response(200, answer, "application/json")

    def rpc_error(self, id: bytes, error: RpcError) -> HttpResponse:
        """Return the response to a call that failed. Denials have the status and the code of the node."""
        status, headers = _STATUS_OF_CODE.get(error.code, 200), _retry_hint(error)
        if status != 200 and not isinstance(error, RawRpcError):
            steps = error.recovery_steps
            error = RpcError(_NODE_CODE, error.message, error.data, error_code=error.error_code, recovery_steps=steps)
        return self.response(status, error_answer(id, error), "application/json", headers)


class CoreResponseWriter(ResponseWriter):
    """Writes responses as Bitcoin Core does. All errors of a POST are those of JSON-RPC.

    Attributes:
        request: what was asked; it decides on the version of the answer. None until the body was read.
        user_agent: the program that asks, as it says.
    """

    __slots__ = ("request", "user_agent")

    def __init__(self, method: str, origin: str | None, is_allowed: bool = True) -> None:
        super().__init__(method, origin, is_allowed)
        self.request: CoreRequest | None = None
        self.user_agent = ""

    def error(self, status: int, message: str, headers: Headers = ()) -> HttpResponse:
        """See `ResponseWriter`."""
        if not self._speaks_json:
            return super().error(status, message, headers)
        error = error_answer(NULL_ID, RpcError(_CODE_OF_STATUS.get(status, JsonRpcCode.INVALID_REQUEST), message))
        return self.response(status, core_answer(_UNREAD, error)[1], "application/json", headers)

    def answer(self, answer: bytes | None) -> HttpResponse:
        """See `ResponseWriter`."""
        return self._answer(answer, ())

    def rpc_error(self, id: bytes, error: RpcError) -> HttpResponse:
        """See `ResponseWriter`. Denials have the status that they have elsewhere, also in JSON-RPC 2.0."""
        response = self._answer(error_answer(id, error), _retry_hint(error))
        return replace(response, status=_STATUS_OF_CODE.get(error.code, response.status))

    def _answer(self, answer: bytes | None, headers: Headers) -> HttpResponse:
        if answer is None:
            return self.empty()
        status, body = core_answer(self.request or _UNREAD, answer)
        return self.response(status, body, "application/json", headers)


def _retry_hint(error: RpcError) -> Headers:
    if _STATUS_OF_CODE.get(error.code) != 429 or not isinstance(error.data, dict):
        return ()
    milliseconds = error.data.get("retry_after_ms")
    return () if milliseconds is None else _retry_after(milliseconds / 1000)


def _retry_after(seconds: float) -> Headers:
    """Return the header Retry-After (RFC 9110 section 10.2.3)."""
    return ((b"Retry-After", b"%d" % math.ceil(seconds)),)


def _denial_headers(denial: Denial) -> Headers:
    if _STATUS[denial.kind] == 401:
        return _CHALLENGE
    return _retry_after(denial.retry_after) if denial.retry_after else ()

"""HTTP responses for denials."""

from __future__ import annotations

import math

from ..auth.denial import Denial, DenialKind
from ..protocol.http import Headers, HttpRefusal, HttpResponse

__all__ = ["SECURITY_HEADERS", "refusal_for", "response_for", "retry_after", "text_response"]

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
SECURITY_HEADERS = (
    (b"X-Content-Type-Options", b"nosniff"),
    (b"X-Frame-Options", b"DENY"),
    (b"Content-Security-Policy", b"default-src 'none'"),
    (b"Referrer-Policy", b"no-referrer"),
)
_TEXT = "text/plain; charset=utf-8"


def refusal_for(denial: Denial) -> HttpRefusal:
    """Return the response after which the connection is closed."""
    return HttpRefusal(_STATUS[denial.kind], denial.message, _headers(denial))


def response_for(denial: Denial) -> HttpResponse:
    """Return the response after which the connection may be used again."""
    return text_response(_STATUS[denial.kind], denial.message, _headers(denial))


def text_response(status: int, text: str, headers: Headers = ()) -> HttpResponse:
    """Return a response with one line of text."""
    return HttpResponse(status, text.encode() + b"\n", _TEXT, (*headers, *SECURITY_HEADERS))


def retry_after(seconds: float) -> Headers:
    """Return the header Retry-After (RFC 9110 section 10.2.3)."""
    return ((b"Retry-After", b"%d" % math.ceil(seconds)),)


def _headers(denial: Denial) -> Headers:
    if _STATUS[denial.kind] == 401:
        return _CHALLENGE
    return retry_after(denial.retry_after) if denial.retry_after else ()

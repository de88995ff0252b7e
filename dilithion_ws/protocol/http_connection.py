"""The HTTP stage of a connection: h11 parses requests, one after the other, until one asks for a WebSocket.

A request comes in two outcomes: its head, and the whole request. In between its receiver decides whether it wants the
body (`accept_body`). A response instead of that ends the connection, unless the body has arrived already.

Bytes that arrived in the same packet after an upgrade request are kept (`UpgradeRequest.trailing`): they are the first
frames.
"""

from __future__ import annotations

import re

import h11
import msgspec

from .chunked import ChunkedChecker
from .handshake import UpgradeRequest, check_upgrade, fields_of, tokens_of
from .http import HttpHead, HttpRefusal, HttpRequest, HttpResponse, is_ambiguous, reason_phrase, response_headers
from .request_target import parse_target

__all__ = ["HttpConnection", "HttpLimits", "HttpOutcome"]

HttpOutcome = UpgradeRequest | HttpHead | HttpRequest | HttpRefusal
"""What was received: a request for a WebSocket, the head of another request, that request, or what cannot be answered."""


_EMPTY_LINES = re.compile(rb"(?:\r?\n)*")
_MAX_IGNORED = 16
"""Bytes of empty lines before a request: each costs time, and no client sends more than one or two."""
_BAD_CHUNKS = HttpRefusal(400, "the chunks of the body are malformed, or it has trailers")


class HttpLimits(msgspec.Struct, frozen=True):
    """Bounds of requests, and the sentences that refusals for them carry.

    Attributes:
        head: bytes of request line and headers together.
        head_too_large: the body of a 431 response.
        body: bytes of the body of an ordinary request; -1 if only upgrades are answered.
        body_too_large: the body of a 413 response.
        keep_alive: seconds for the next request, as responses announce them; 0 announces none.
        max_chunks: chunks of a body that one call of `receive` looks at.
        max_fields: header fields of a request.
        too_many_fields: the body of a 431 response for them.
    """

    head: int
    head_too_large: str
    body: int = -1
    body_too_large: str = ""
    keep_alive: int = 0
    max_chunks: int = 32
    max_fields: int = 100
    too_many_fields: str = ""


class HttpConnection:
    """Parses the requests of one connection and encodes the responses.

    Args:
        limits: bounds of requests.

    Attributes:
        method: that of the latest request, or empty.
        is_idle: whether a response was sent, and nothing of the next request was received.
        has_more: whether `receive` may return an outcome without further bytes: it looks at a bounded number of chunks.
        chunks, body_bytes: chunks of bodies looked at so far, and the bytes in them.
    """

    __slots__ = (
        "_body",
        "_carriage_return",
        "_checker",
        "_connection",
        "_head",
        "_ignored",
        "_is_too_large",
        "_limits",
        "_request",
        "_unchecked",
        "body_bytes",
        "chunks",
        "has_more",
        "is_idle",
        "method",
    )

    def __init__(self, limits: HttpLimits) -> None:
        self._connection = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.head)
        self._limits = limits
        self._head = b""
        self._ignored = 0  # bytes of empty lines before the request
        self._carriage_return = b""  # the first half of one
        self._request: HttpHead | None = None
        self._body = bytearray()
        self._checker: ChunkedChecker | None = None  # of a chunked body
        self._is_too_large = False  # the body, by its Content-Length
        self._unchecked = b""  # what has arrived of that, and was not passed to h11 yet
        self.method = b""
        self.is_idle = False
        self.has_more = False
        self.chunks = 0
        self.body_bytes = 0

    def receive(self, data: bytes) -> HttpOutcome | None:
        """Parse received bytes. Return the outcome once a head or a request is complete, otherwise None."""
        if self._request is None:
            if not self._head:
                found = self._without_empty_lines(data)
                if not isinstance(found, bytes):
                    return found
                data = found
            self.is_idle = False
            self._head += data
            most = self._limits.max_fields
            if self._head.count(b"\n") > most and self._head.partition(b"\r\n\r\n")[0].count(b"\n") > most:
                return HttpRefusal(431, self._limits.too_many_fields)
        elif self._checker is not None:
            self._unchecked += data
            return self.accept_body()
        try:
            if data:  # h11 takes b"" for the end of the stream
                self._connection.receive_data(data)
        except h11.RemoteProtocolError as error:  # pragma: no cover - h11 reports errors when events are asked for
            return HttpRefusal(400, f"not an HTTP/1.1 request: {error}")
        return self._parse()

    def _without_empty_lines(self, data: bytes) -> bytes | HttpRefusal | None:
        """Return what follows the empty lines before a request, which are ignored (RFC 9112 section 2.2).

        None if there is nothing yet; a refusal if there are more of them than any client sends.
        """
        data = self._carriage_return + data
        end = _EMPTY_LINES.match(data).end()  # type: ignore[union-attr]
        self._ignored += end
        if self._ignored > _MAX_IGNORED:
            return HttpRefusal(400, "too many empty lines before the request")
        rest = data[end:]
        self._carriage_return = rest if rest == b"\r" else b""
        return rest if rest and rest != b"\r" else None

    def accept_body(self) -> HttpOutcome | None:
        """Go on behind the head that was returned. Return the request if it is complete already, otherwise None."""
        if self._is_too_large:  # not said before: a client that may not send a body learns that first
            return HttpRefusal(413, self._limits.body_too_large)
        if not self._pass_checked_chunks():
            return _BAD_CHUNKS
        outcome = self._parse()
        if self._unchecked and outcome is None:
            self.has_more = True
        return outcome

    def _pass_checked_chunks(self) -> bool:
        """Pass a bounded number of chunks to h11, once their framing was checked. Return whether it is right."""
        if self._checker is None or not self._unchecked:
            return True
        size = self._checker.check(self._unchecked, 2 * self._limits.max_chunks)
        if size > 0:
            checked, self._unchecked = self._unchecked[:size], self._unchecked[size:]
            self._connection.receive_data(checked)
        return size >= 0

    def _parse(self) -> HttpOutcome | None:
        try:
            return self._next_outcome()
        except h11.RemoteProtocolError as error:
            if error.error_status_hint == 431:
                return HttpRefusal(431, self._limits.head_too_large)
            return HttpRefusal(400, f"not an HTTP/1.1 request: {error}")

    def _next_outcome(self) -> HttpOutcome | None:
        limits, self.has_more = self._limits, False
        last_chunk = self.chunks + limits.max_chunks
        while True:
            if self.chunks >= last_chunk:
                self.has_more = True
                return None
            event = self._connection.next_event()
            if event is h11.NEED_DATA or event is h11.PAUSED:
                return None
            if isinstance(event, h11.Request):
                self.method, head = event.method, self._head
                refusal = self._check_head()
                if refusal is not None:
                    return refusal
                if event.http_version not in (b"1.0", b"1.1"):
                    return HttpRefusal(505, "this server speaks HTTP/1.1")
                fields, target = fields_of(event), event.target.decode("ascii")
                if not target.startswith("/"):
                    found = parse_target(event.method.decode("ascii"), target)
                    if found is None:
                        return HttpRefusal(400, "the request target has a form that is not served here")
                    target = found.path
                    if found.authority is not None:  # a Host header counts for nothing then (RFC 9112 section 3.2.2)
                        fields[b"host"] = [found.authority.encode("ascii")]
                if limits.body < 0 or b"websocket" in tokens_of(fields, b"upgrade"):
                    trailing = self._connection.trailing_data[0]
                    return check_upgrade(event.method, event.http_version, fields, target, trailing)
                length = fields.get(b"content-length")
                if b"transfer-encoding" in fields:
                    if length:
                        return HttpRefusal(
                            400, "a request has one length: Transfer-Encoding or Content-Length, not both"
                        )
                    if event.http_version == b"1.0":
                        return HttpRefusal(400, "HTTP/1.0 has no Transfer-Encoding (RFC 9112 section 6.1)")
                self._is_too_large = length is not None and int(length[0]) > limits.body
                if b"transfer-encoding" in fields:
                    self._set_body_aside(head)
                headers = tuple((name, value) for name, values in fields.items() for value in values)
                self._request = HttpHead(event.method.decode("ascii"), target, headers)
                return self._request
            if isinstance(event, h11.Data):
                self.chunks += 1
                self.body_bytes += len(event.data)
                self._body += event.data
                if len(self._body) > limits.body:
                    return HttpRefusal(413, limits.body_too_large)
            else:
                return self._complete()

    def _check_head(self) -> HttpRefusal | None:
        """Check the head as it was received, more strictly than h11 does."""
        head, self._head = self._head.lstrip(b"\r\n").partition(b"\r\n\r\n")[0], b""
        if len(head) + 4 > self._limits.head:
            return HttpRefusal(431, self._limits.head_too_large)
        if is_ambiguous(head):
            return HttpRefusal(400, "not an HTTP/1.1 request: lines end with CR LF, and are not folded")
        return None

    def _set_body_aside(self, head: bytes) -> None:
        """Take what has arrived of a chunked body back from h11, which gets it in pieces, after each was checked."""
        self._unchecked = self._connection.trailing_data[0]
        self._checker = ChunkedChecker()
        self._connection = h11.Connection(h11.SERVER, max_incomplete_event_size=self._limits.head)
        self._connection.receive_data(head[: len(head) - len(self._unchecked)])
        self._connection.next_event()

    def _complete(self) -> HttpRequest:
        head = self._request
        assert head is not None
        body, self._body, self._request, self._checker = bytes(self._body), bytearray(), None, None
        return HttpRequest(head.method, head.target, head.headers, body)

    @property
    def expects_continue(self) -> bool:
        """Whether the client waits for a 100 response before it sends the body (RFC 9110 section 10.1.1)."""
        return self._connection.they_are_waiting_for_100_continue

    def encode_continue(self) -> bytes:
        """Return the 100 response."""
        return self._connection.send(h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue"))

    def encode_response(self, response: HttpResponse, date: bytes, *, close: bool) -> tuple[bytes, bool]:
        """Return the bytes of a response, and whether the connection ends after it.

        Args:
            response: the response to the latest request.
            date: the value of the Date header.
            close: whether the connection must end in any case.
        """
        headers = response_headers(response.status, date, response.content_type, len(response.body))
        headers += response.headers
        connection = self._connection
        self._discard_body()
        if close or response.ends or connection.their_state is h11.SEND_BODY:
            headers.append((b"Connection", b"close"))
        elif connection.their_state is h11.DONE and self._limits.keep_alive:
            headers.append((b"Keep-Alive", b"timeout=%d" % self._limits.keep_alive))
        data = connection.send(
            h11.Response(status_code=response.status, headers=headers, reason=reason_phrase(response.status))
        )
        if response.body and self.method != b"HEAD":
            data += connection.send(h11.Data(data=response.body))
        data += connection.send(h11.EndOfMessage())
        return data, connection.our_state is not h11.DONE or connection.their_state is not h11.DONE

    def _discard_body(self) -> None:
        """Skip the body of a request that is answered from its head, if it has arrived, to keep the connection."""
        self._body.clear()
        self._pass_checked_chunks()
        self._request = self._checker = None
        for _ in range(self._limits.max_chunks):
            if self._connection.their_state is not h11.SEND_BODY or self._connection.they_are_waiting_for_100_continue:
                return
            try:
                if self._connection.next_event() is h11.NEED_DATA:
                    return
            except h11.RemoteProtocolError:
                return

    def start_next_request(self) -> None:
        """Go on to the next request after a response. If a part of it has arrived already, `has_more` is true."""
        self._head, self._ignored = self._connection.trailing_data[0], 0
        found = self._without_empty_lines(self._head)  # some clients send one behind a body
        if found != self._head and not isinstance(found, HttpRefusal):
            self._head = found or b""
            self._connection = h11.Connection(h11.SERVER, max_incomplete_event_size=self._limits.head)
            if self._head:
                self._connection.receive_data(self._head)
        else:
            self._connection.start_next_cycle()
        self.has_more = bool(self._head)
        self.is_idle = not self._head

"""HTTP requests to the node over pooled connections, with a deadline and a limit on the size of answers."""

from __future__ import annotations

import base64
import ssl
import threading
import time
from collections.abc import Mapping
from typing import Protocol

import urllib3
from urllib3.exceptions import (
    ClosedPoolError,
    ConnectTimeoutError,
    EmptyPoolError,
    HTTPError,
    NameResolutionError,
    NewConnectionError,
    ReadTimeoutError,
    SSLError,
)
from urllib3.exceptions import (
    TimeoutError as Urllib3TimeoutError,
)

from ..util.thread_contracts import any_thread
from .gateway_config import GatewayConfig
from .response_parser import UpstreamReply
from .upstream_errors import UpstreamError, UpstreamErrorKind

__all__ = ["NodeAccount", "HttpPoster", "HttpUpstream"]

_CHUNK = 256 * 1024
_NOT_SENT = (NewConnectionError, ConnectTimeoutError, NameResolutionError, ClosedPoolError)


class HttpPoster(Protocol):
    """Sends requests to the node. Tests have implementations of their own."""

    def post(self, body: bytes, headers: Mapping[str, str], timeout: float, path: str = "") -> UpstreamReply:
        """See `HttpUpstream.post`."""


class NodeAccount:
    """The gateway's credentials at the node. Thread-safe.

    Args:
        user, password: the account; empty for none.
        cookie_file: the file that the node writes `user:password` to at each start; before the account.
    """

    def __init__(self, user: str, password: str, cookie_file: str) -> None:
        self._cookie_file = cookie_file
        self._lock = threading.Lock()  # guards `_text`
        self._text = f"{user}:{password}" if user else ""
        if cookie_file:
            self.renew()

    @any_thread
    def renew(self) -> None:
        """Read the cookie file again. If it cannot be read, keep the previous credentials."""
        if not self._cookie_file:
            return
        try:
            with open(self._cookie_file, encoding="utf-8") as file:
                text = file.read(4096).strip()
        except (OSError, UnicodeDecodeError):
            return
        with self._lock:
            self._text = text

    @any_thread
    def headers(self) -> dict[str, str]:
        """Return the headers for a request, in the spelling that the Dilithion node requires."""
        with self._lock:
            text = self._text
        return {"Authorization": "Basic " + base64.b64encode(text.encode()).decode()} if text else {}


class HttpUpstream:
    """Sends requests to the node. Thread-safe.

    Args:
        config: where the node is.
        account: the gateway's credentials.
        connections: open at the same time.
        url: of the node, if not the configured one.
    """

    def __init__(self, config: GatewayConfig, account: NodeAccount, connections: int, url: str = "") -> None:
        self._url = url or config.upstream
        self._root = self._url.partition("/wallet/")[0].rstrip("/")
        self._account = account
        self._max_answer_size = config.answer_size
        self._pool = urllib3.PoolManager(
            num_pools=1, maxsize=connections, block=True, retries=False, timeout=config.poll_timeout
        )

    def post(self, body: bytes, headers: Mapping[str, str], timeout: float, path: str = "") -> UpstreamReply:
        """Send a call, and read its whole answer.

        Args:
            body: of the request.
            headers: in addition to the credentials.
            timeout: seconds; twice as many if no connection was free at first.
            path: where to, if not to the configured URL.

        Raises:
            UpstreamError: there is no whole answer; of kind DOWN if nothing was sent.
        """
        return self.request("POST", path, body, {"Content-Type": "application/json", **headers}, timeout)

    def request(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str], timeout: float
    ) -> UpstreamReply:
        """Send any request, with the gateway's credentials. See `post`."""
        credentials = self._account.headers()
        url = self._root + path if path else self._url
        reply = self._request(method, url, body, {**headers, **credentials}, timeout)
        if reply.status == 401:  # the node may have restarted with another cookie
            self._account.renew()
            other = self._account.headers()
            if other != credentials:
                return self._request(method, url, body, {**headers, **other}, timeout)
        return reply

    def _request(
        self, method: str, url: str, body: bytes | None, headers: Mapping[str, str], timeout: float
    ) -> UpstreamReply:
        if timeout <= 0:
            raise UpstreamError(UpstreamErrorKind.BUSY, "no connection to it was free in time")
        until = time.monotonic() + timeout
        try:
            response = self._pool.request(
                method,
                url,
                body=body,
                headers=headers,
                timeout=urllib3.Timeout(connect=timeout, read=timeout),
                preload_content=False,
                redirect=False,
                pool_timeout=timeout,
            )
        except EmptyPoolError:
            raise UpstreamError(UpstreamErrorKind.BUSY, "no connection to it was free in time") from None
        except _NOT_SENT as error:
            self.close()
            raise UpstreamError(UpstreamErrorKind.DOWN, _reason(error)) from None
        except ReadTimeoutError:
            raise UpstreamError(UpstreamErrorKind.SLOW) from None
        except SSLError:  # while connecting
            raise UpstreamError(UpstreamErrorKind.DOWN, "TLS failed") from None
        except HTTPError as error:
            self.close()
            raise UpstreamError(UpstreamErrorKind.LOST, _reason(error)) from None
        if response.status == 503:
            self.close()
        try:
            return UpstreamReply(response.status, dict(response.headers), self._read(response, until))
        finally:
            response.release_conn()

    def _read(self, response: urllib3.BaseHTTPResponse, until: float) -> bytes:
        parts, size = [], 0
        try:
            for part in response.stream(_CHUNK):
                parts.append(part)
                size += len(part)
                if time.monotonic() > until:
                    response.close()
                    raise UpstreamError(UpstreamErrorKind.SLOW)
                if size > self._max_answer_size:
                    response.close()
                    limit = f"limit of {self._max_answer_size} bytes (rpcgatewayanswersize)"
                    raise UpstreamError(UpstreamErrorKind.TOO_LARGE, f"past the {limit}")
        except Urllib3TimeoutError:
            response.close()
            raise UpstreamError(UpstreamErrorKind.SLOW) from None
        except HTTPError as error:
            response.close()
            raise UpstreamError(UpstreamErrorKind.LOST, _reason(error)) from None
        return b"".join(parts)

    def close(self) -> None:
        """Close the idle connections. A node that stops waits up to half a minute for them."""
        self._pool.clear()


def _reason(error: BaseException) -> str:
    """Return the cause of an error without addresses, which clients should not learn."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and not isinstance(cause, ssl.SSLError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return type(error).__name__

"""The errors of attempts to connect, each with its cause and, if there is one, the option that helps."""

from __future__ import annotations

import os
import socket
import ssl

from .exceptions import CertificateError, ClientError, ConnectionLostError, RefusedError

__all__ = ["connect_error", "upgrade_error"]

_FINAL = (400, 401, 403, 404, 426)


def connect_error(host: str, port: int, error: OSError) -> ClientError:
    """Return the error for an address that cannot be connected to, or not by TLS."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return CertificateError(
            f"the certificate of {host}:{port} can't be verified: {error.verify_message}; "
            "for one of your own, pass an ssl_context that trusts it (--ca FILE)"
        )
    if isinstance(error, ssl.SSLError):
        reason = error.reason or str(error)
        return ConnectionLostError(f"{host}:{port} does not speak TLS, or not as we do: {reason} (ws:// is plain)")
    if isinstance(error, TimeoutError):
        return ConnectionLostError(f"can't connect to {host}:{port}: no answer in time")
    is_name = isinstance(error, socket.gaierror)  # has numbers of its own
    text = os.strerror(error.errno) if error.errno and not is_name else error.strerror or str(error)
    return ConnectionLostError(f"can't connect to {host}:{port}: {text}")


def upgrade_error(status: int, body: bytes, retry_after: str | None) -> ClientError:
    """Return the error for an answer to the upgrade that is not an upgrade.

    Args:
        status: of HTTP.
        body: its first line is the reason.
        retry_after: the header's value.
    """
    text = body.decode("utf-8", "replace").strip().partition("\n")[0]
    if status in _FINAL:
        return RefusedError(status, text)
    wait = "" if retry_after is None else f"; it asks to wait {retry_after} s"
    return ConnectionLostError(f"the server has no room now: HTTP {status} {text}".rstrip() + wait)

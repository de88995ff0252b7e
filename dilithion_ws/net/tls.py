"""The TLS context of the listening port, and its replacement while the server runs."""

from __future__ import annotations

import os
import ssl

from ..errors import ConfigError
from ..util.files import permissions_of

__all__ = ["HANDSHAKE_BYTE", "WANTS", "TlsContext"]

HANDSHAKE_BYTE = b"\x16"
"""The first byte of every TLS connection (RFC 8446 section 5.1: a record of type handshake)."""

WANTS = (ssl.SSLWantReadError, ssl.SSLWantWriteError)
"""Exceptions that a non-blocking TLS socket raises instead of blocking."""

_TLS_1_2_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20:!aNULL:!eNULL"


class TlsContext:
    """The server's side of TLS.

    Args:
        certificate: PEM file with the certificate and its chain.
        private_key: PEM file with its key; only its owner and group may read it.
        client_ca: PEM file or directory of authorities, or "". Clients may then present a certificate of one of them.
        requires_client: whether clients must do so.

    Attributes:
        context: the context of new connections; `reload` replaces it.

    Raises:
        ConfigError: a file cannot be used; the message says which and why.
    """

    def __init__(self, certificate: str, private_key: str, client_ca: str = "", requires_client: bool = False) -> None:
        self._requires_client = requires_client
        self._certificate = certificate
        self._private_key = private_key
        self._client_ca = client_ca
        self.context = self._load()

    def reload(self) -> None:
        """Read the files again, for new connections. If that raises ConfigError, the old context stays in use."""
        self.context = self._load()

    def _load(self) -> ssl.SSLContext:
        for key, path in (
            ("rpcsslcertificatechainfile", self._certificate),
            ("rpcsslprivatekeyfile", self._private_key),
        ):
            try:
                with open(path, "rb"):
                    pass
            except OSError as error:
                raise ConfigError(f"{key}: {path} can't be read: {error.strerror}") from None
        mode = permissions_of(self._private_key)
        if mode & 0o037:
            raise ConfigError(
                f"rpcsslprivatekeyfile: {self._private_key} has mode {mode:04o}: others than its owner and group can use "
                "it; chmod 600 it"
            )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
        context.set_ciphers(_TLS_1_2_CIPHERS)
        # One connection of a client resumes another, so it needs one ticket. A second one costs 4 % of a handshake.
        context.num_tickets = 1
        context.set_alpn_protocols(["http/1.1"])
        try:
            context.load_cert_chain(self._certificate, self._private_key, password=_no_password)
        except (ssl.SSLError, ValueError) as error:
            raise ConfigError(
                f"rpcsslcertificatechainfile and rpcsslprivatekeyfile: {self._certificate} and {self._private_key} "
                f"can't be used together: {_reason_of(error)}"
            ) from None
        if self._client_ca:
            folder = os.path.isdir(self._client_ca)
            try:
                context.load_verify_locations(
                    cafile=None if folder else self._client_ca, capath=self._client_ca if folder else None
                )
            except (OSError, ssl.SSLError) as error:
                raise ConfigError(f"rpcsslcapath: {self._client_ca} can't be used: {_reason_of(error)}") from None
            context.verify_mode = ssl.CERT_REQUIRED if self._requires_client else ssl.CERT_OPTIONAL
        return context


def _no_password() -> str:
    raise ValueError("the private key is encrypted; a server needs one without a passphrase")


def _reason_of(error: Exception) -> str:
    return getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)

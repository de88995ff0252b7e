from __future__ import annotations

import base64
import hashlib
import ssl
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import serialization


class Authority:
    """A test CA, and files with a certificate for localhost."""

    def __init__(self, folder: Path) -> None:
        self.ca = trustme.CA()
        self.certificate, self.key, self.root = folder / "cert.pem", folder / "key.pem", folder / "ca.pem"
        self.ca.cert_pem.write_to_path(str(self.root))
        self.renew()

    def renew(self, name: str = "localhost") -> None:
        issued = self.ca.issue_cert(name, "127.0.0.1")
        self.certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        self.key.write_bytes(issued.private_key_pem.bytes())
        self.key.chmod(0o600)

    def chromium_option(self) -> str:
        """Has Chromium trust the certificate of this authority, and no other that it does not know."""
        key = x509.load_pem_x509_certificate(self.certificate.read_bytes()).public_key()
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        digest = hashlib.sha256(key.public_bytes(serialization.Encoding.DER, form)).digest()
        return f"--ignore-certificate-errors-spki-list={base64.b64encode(digest).decode()}"

    def context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.root))

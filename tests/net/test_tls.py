from __future__ import annotations

import ssl
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from dilithion_ws import ConfigError
from dilithion_ws.net.tls import TlsContext

from ..support.certificates import Authority


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def test_a_context_is_made_and_replaced(authority: Authority) -> None:
    tls = TlsContext(str(authority.certificate), str(authority.key))
    before = tls.context
    authority.renew()
    tls.reload()
    assert tls.context is not before
    assert tls.context.minimum_version >= ssl.TLSVersion.TLSv1_2
    authority.key.write_text("nonsense")
    context = tls.context
    with pytest.raises(ConfigError, match="can't be used together"):
        tls.reload()
    assert tls.context is context


@pytest.mark.parametrize("name", ["certificate", "key"])
def test_a_file_that_is_missing_is_named(authority: Authority, name: str) -> None:
    path: Path = getattr(authority, name)
    path.unlink()
    with pytest.raises(ConfigError, match=f"{path} can't be read: No such file"):
        TlsContext(str(authority.certificate), str(authority.key))


def test_a_key_that_others_can_read_is_refused(authority: Authority) -> None:
    authority.key.chmod(0o644)
    assert stat.S_IMODE(authority.key.stat().st_mode) == 0o644
    with pytest.raises(ConfigError, match="has mode 0644"):
        TlsContext(str(authority.certificate), str(authority.key))


def test_an_encrypted_key_is_refused(authority: Authority) -> None:
    key = serialization.load_pem_private_key(authority.key.read_bytes(), None)
    authority.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(ConfigError, match="the private key is encrypted"):
        TlsContext(str(authority.certificate), str(authority.key))


def test_client_certificates_are_checked_against_a_file_or_a_folder(authority: Authority) -> None:
    files = str(authority.certificate), str(authority.key)
    for path in (authority.root, authority.root.parent):
        assert TlsContext(*files, str(path)).context.verify_mode is ssl.CERT_OPTIONAL
    with pytest.raises(ConfigError, match="rpcsslcapath"):
        TlsContext(*files, str(authority.key))

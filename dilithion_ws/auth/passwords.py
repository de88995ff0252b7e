"""Stored passwords: new ones use a slow hash, and the node's older forms are still accepted.

    scheme                  digest                                                              cost
    scrypt:N:R:P            scrypt(password, salt), 32 bytes                                    about 50 ms
    pbkdf2-sha3-256:ROUNDS  PBKDF2-HMAC-SHA3-256(password, salt), 32 bytes                      about 100 ms
    node                    HMAC-SHA3-256(salt, password), or SHA-256(salt + password):         microseconds
                            what the node checks, and what its bundled script writes

Digests are compared in constant time.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass

from ..errors import ConfigError

__all__ = ["NODE_SCHEME", "SCHEMES", "StoredPassword", "hash_password"]

SCHEMES = ("scrypt:16384:8:1", "pbkdf2-sha3-256:100000")
"""Schemes of new passwords; the first is the default."""

NODE_SCHEME = "node"
_SALT_SIZE = 32
_DIGEST_SIZE = 32
_MAX_MEMORY = 128 << 20
_MAX_ROUNDS = 10_000_000


@dataclass(frozen=True, repr=False)
class StoredPassword:
    """A salted digest of a password.

    Attributes:
        scheme: how the digest was made, see above.
        salt, digest: bytes.

    Raises:
        ConfigError: the scheme is unknown, or its parameters are out of bounds.
    """

    scheme: str
    salt: bytes
    digest: bytes

    def __post_init__(self) -> None:
        _parameters(self.scheme)

    def __repr__(self) -> str:
        return f"<StoredPassword {self.scheme}>"

    def matches(self, password: str) -> bool:
        """Return whether this is the password. It takes the time of the scheme, whatever the result."""
        secret = password.encode("utf-8", "surrogatepass")
        if self.scheme == NODE_SCHEME:
            by_node = hmac.new(self.salt, secret, hashlib.sha3_256).digest()
            by_script = hashlib.sha256(self.salt + secret).digest()
            return hmac.compare_digest(by_node, self.digest) | hmac.compare_digest(by_script, self.digest)
        return hmac.compare_digest(_derive(self.scheme, secret, self.salt), self.digest)


def hash_password(password: str, scheme: str = SCHEMES[0]) -> StoredPassword:
    """Return the stored form of a password, with a fresh salt."""
    salt = secrets.token_bytes(_SALT_SIZE)
    secret = password.encode("utf-8", "surrogatepass")
    if scheme == NODE_SCHEME:
        return StoredPassword(scheme, salt, hmac.new(salt, secret, hashlib.sha3_256).digest())
    return StoredPassword(scheme, salt, _derive(scheme, secret, salt))


def _derive(scheme: str, secret: bytes, salt: bytes) -> bytes:
    name, numbers = _parameters(scheme)
    if name == "scrypt":
        n, r, p = numbers
        return hashlib.scrypt(secret, salt=salt, n=n, r=r, p=p, maxmem=2 * _MAX_MEMORY, dklen=_DIGEST_SIZE)
    return hashlib.pbkdf2_hmac("sha3_256", secret, salt, numbers[0], _DIGEST_SIZE)


def _parameters(scheme: str) -> tuple[str, list[int]]:
    name, *texts = scheme.split(":")
    if all(text.isascii() and text.isdecimal() and len(text) < 10 for text in texts):
        numbers = [int(text) for text in texts]
        if name == NODE_SCHEME and not numbers:
            return name, numbers
        if name == "scrypt" and len(numbers) == 3:
            n, r, p = numbers
            if (
                n >= 2
                and n & (n - 1) == 0
                and r >= 1
                and n < 1 << 16 * r
                and 1 <= p <= 16
                and 128 * r * (n + p + 2) <= _MAX_MEMORY
            ):
                return name, numbers
        if name == "pbkdf2-sha3-256" and len(numbers) == 1 and 1 <= numbers[0] <= _MAX_ROUNDS:
            return name, numbers
    raise ConfigError(
        f"password scheme {scheme[:64]!r} is unknown or out of bounds; accepted are like {', '.join(SCHEMES)}"
    )

"""Hash time-locked contracts: outputs that one spends with a preimage, or another one after a height."""

from __future__ import annotations

from dataclasses import dataclass

from .primitives import decode_address, digest, encode_address

__all__ = ["HtlcTerms", "htlc_of_script"]

_HEAD = b"\xb5\x20"
_SIZE = len(_HEAD) + 32 + 20 + 20 + 4


@dataclass(frozen=True)
class HtlcTerms:
    """Who may spend an output, and how.

    Attributes:
        hash_lock: the SHA3-256 of the preimage.
        claimer: the address that may spend it with the preimage.
        refundee: the address that may spend it from `timeout` on.
        timeout: a height.
    """

    hash_lock: bytes
    claimer: str
    refundee: str
    timeout: int

    @property
    def script(self) -> bytes:
        """The script of the output."""
        claimer, refundee = decode_address(self.claimer), decode_address(self.refundee)
        assert claimer is not None
        assert refundee is not None
        return _HEAD + self.hash_lock + claimer + refundee + self.timeout.to_bytes(4, "little")

    def may_spend(self, proof: bytes, height: int) -> bool:
        """Return whether a proof spends the output in a block: secret and preimage, or after the timeout a secret."""
        secret, preimage = proof[:32], proof[32:]
        owner = encode_address(digest(secret)[:20])
        if preimage:
            return owner == self.claimer and digest(preimage) == self.hash_lock
        return owner == self.refundee and height >= self.timeout


def htlc_of_script(script: bytes) -> HtlcTerms | None:
    """Return the terms that a script has, or None if it is not such a contract."""
    if len(script) != _SIZE or not script.startswith(_HEAD):
        return None
    rest = script[len(_HEAD) :]
    claimer, refundee = encode_address(rest[32:52]), encode_address(rest[52:72])
    return HtlcTerms(rest[:32], claimer, refundee, int.from_bytes(rest[72:], "little"))

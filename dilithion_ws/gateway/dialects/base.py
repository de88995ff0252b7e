"""What the gateway must know of a kind of node: how it wants to be spoken to, and what its methods need. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

__all__ = ["Dialect", "permissions"]

_READS = ("get", "list", "decode", "estimate", "check", "verify", "test", "help")
_WRITES = ("getnewaddress", "getrawchangeaddress")


class Dialect:
    """A kind of node.

    Attributes:
        name: as `--dialect` has it.
        headers: that each request must have.
        version: the `jsonrpc` member of requests.
        permissions: what a caller must be allowed, by method.
        names: of the params of a method, in order, where they are known.
        max_batch: calls in one request.
        max_body: bytes of a request, its headers included.
        can_wait: whether a call that waits for a block holds up no other.
    """

    name = ""
    headers: Mapping[str, str] = {}
    version = b"2.0"
    permissions: Mapping[str, str | None] = {}
    names: Mapping[str, Sequence[str]] = {}
    max_batch = 1000
    max_body = 32 * 1024 * 1024
    can_wait = False

    def only_reads(self, method: str) -> bool:
        """Whether a call may be made twice."""
        return method.startswith(_READS) and method not in _WRITES

    def params(self, method: str, params: bytes) -> bytes:
        """The params as this node understands them; raises RpcError where it would misunderstand them."""
        return b"[]" if params in (b"", b"null") else params

    def request(self, method: str, params: bytes, id: int) -> bytes:
        """One request object. The method's name is one of letters, digits, `_` and `.`: there is nothing to escape."""
        text = self.params(method, params)
        return b'{"jsonrpc":"%b","method":"%b","params":%b,"id":%d}' % (self.version, method.encode(), text, id)


def permissions(text: str) -> dict[str, str | None]:
    """By method, from lines of `PERMISSION: method method ...`."""
    found: dict[str, str | None] = {}
    permission = ""
    for word in text.split():
        if word.endswith(":"):
            permission = word[:-1]
        else:
            found[word] = permission
    return found

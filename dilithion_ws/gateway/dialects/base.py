"""A dialect: the headers, params and limits of one family of nodes, and the permissions of its methods. No I/O."""

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
        names: of the params of a method, in order, if they are known.
        max_batch: calls in one request.
        max_body: bytes of a request, its headers included.
        timeouts: seconds that slow methods may take, by name.
        tip_reads: methods whose results depend on nothing but the tip and the params.
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
    timeouts: Mapping[str, float] = {}
    tip_reads: frozenset[str] = frozenset()

    def only_reads(self, method: str) -> bool:
        """Return whether a method only reads, so that a call may be repeated."""
        return method.startswith(_READS) and method not in _WRITES

    def params(self, method: str, params: bytes) -> bytes:
        """Return the params as this node understands them. Raise RpcError if it would misunderstand them."""
        return b"[]" if params in (b"", b"null") else params

    def request(self, method: str, params: bytes, id: int) -> bytes:
        """Return a request object. A method name of letters, digits, `_` and `.` needs no escapes."""
        text = self.params(method, params)
        return b'{"jsonrpc":"%b","method":"%b","params":%b,"id":%d}' % (self.version, method.encode(), text, id)


def permissions(text: str) -> dict[str, str | None]:
    """Return permissions by method, from lines of `PERMISSION: method method ...`."""
    found: dict[str, str | None] = {}
    permission = ""
    for word in text.split():
        if word.endswith(":"):
            permission = word[:-1]
        else:
            found[word] = permission
    return found

"""A stand-in for a Dilithion node: answers with recorded results, and has the node's habits, the bad ones included.

What it does is what was observed of the node: one request a connection, exact spelling of headers, answers that are not
JSON-RPC, a length that is too short, ids and messages that are not escaped, params by name only, doubles cut to ions, one
lock around everything, logins that take their time, lock-out, and a rate limit that comes with status 200.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import socket
import threading
from pathlib import Path
from typing import Any

RECORDED: dict[str, Any] = json.loads((Path(__file__).parent / "recorded.json").read_text())

_NAMED_ONLY = {
    "getblock": "hash",
    "getblockhash": "height",
    "gettransaction": "txid",
    "getrawtransaction": "txid",
    "decoderawtransaction": "hex",
    "sendrawtransaction": "hex",
    "walletpassphrase": "passphrase",
    "dumpprivkey": "address",
    "addnode": "node",
}


class StandIn:
    """See above.

    Args:
        account: `user:password`; empty for the node as it is, which asks for none.
        login_seconds: how long it takes to check a password, while nothing else is served.
        limited: whether its rate limit holds for this machine (the real one exempts it).
        port: where to listen.
    """

    def __init__(self, account: str = "", login_seconds: float = 0.0, limited: bool = False, port: int = 0) -> None:
        self.account = account
        self._login_seconds = login_seconds
        self.tokens = 10.0 if limited else float("inf")
        self.handling = threading.Lock()  # the node's own one lock, around every call
        self.failures = 0
        self.requests: list[bytes] = []
        self.methods: list[str] = []
        self.pages: dict[str, tuple[int, str, bytes]] = {}  # by path: what GET answers, and POST to /api
        self.held = threading.Event()  # clear: calls of `slow` wait
        self.chain: list[dict[str, Any]] = []
        self.orphans: dict[str, dict[str, Any]] = {}
        self.mempool: dict[str, dict[str, Any]] = {}
        self.peers: list[dict[str, Any]] = json.loads(RECORDED["results"]["getpeerinfo"])
        self.mining: dict[str, Any] = json.loads(RECORDED["results"]["getmininginfo"])
        self.mining_address = ""
        self.details: dict[str, dict[str, Any]] = {}  # transactions of blocks
        self.mine()
        self._listener = socket.create_server(("127.0.0.1", port))
        self._listener.settimeout(0.05)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._stopped = False
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends it, as a crash would."""
        self._stopped = True
        self.held.set()
        self._thread.join(5)
        self._listener.close()

    def mine(self, branch: str = "") -> dict[str, Any]:
        """Adds a block, with all that is in the mempool."""
        height = len(self.chain)
        block = {
            "hash": hashlib.sha256(f"{branch}{height}".encode()).hexdigest(),
            "height": height,
            "version": 4,
            "time": 1795407111 + height,
            "tx_count": 1 + len(self.mempool),
            "tx": [hashlib.sha256(f"coinbase {branch}{height}".encode()).hexdigest(), *self.mempool],
        }
        if height:
            block["previousblockhash"] = self.chain[-1]["hash"]
        self.chain.append(block)
        self.details.update(self.mempool)
        self.mempool = {}
        return block

    def unwind(self, blocks: int) -> None:
        """Takes blocks off the best chain; the node still knows them."""
        for _ in range(blocks):
            block = self.chain.pop()
            self.orphans[block["hash"]] = block

    # HTTP

    def _accept(self) -> None:
        while not self._stopped:
            try:
                sock, _ = self._listener.accept()
            except TimeoutError:
                continue
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError):
            sock.settimeout(10)
            data = b""
            while b"\r\n\r\n" not in data:
                more = sock.recv(65536)
                if not more:
                    return
                data += more
            head, _, body = data.partition(b"\r\n\r\n")
            length = re.search(rb"Content-Length: (\d+)", head)  # exact spelling here too
            while length is not None and len(body) < int(length[1]):
                body += sock.recv(65536)
            sock.sendall(self._respond(head, body))

    def _respond(self, head: bytes, body: bytes) -> bytes:
        self.requests.append(head + b"\r\n\r\n" + body)
        method, path = head.split(b" ", 2)[:2]
        if method == b"GET" or path.startswith(b"/api/"):
            status, kind, page = self.pages.get(path.decode(), (404, "application/json", b'{"error":{"code":4004}}'))
            return _response(status, page, kind=kind)
        if self.failures >= 5:
            return _response(200, b'{"error":"Too many failed authentication attempts. Try again later."}')
        if self.tokens < 1:
            return _response(200, b'{"error":"Rate limit exceeded. Please slow down your requests."}')
        self.tokens -= 1
        if b"\r\nX-Dilithion-RPC:" not in head and b"\r\nx-dilithion-rpc:" not in head:
            text = b'{"error":"CSRF protection: Missing X-Dilithion-RPC header. Include it, as in X-Dilithion-RPC: 1",'
            return _response(403, text + b'"code":-32600}', length=108)
        if self.account and not self._may_pass(head):
            return _response(401, b'{"error":"Unauthorized - Invalid or missing credentials"}')
        if len(head) + len(body) > 2 * 1024 * 1024:
            body = body[: 2 * 1024 * 1024 - len(head)]
        try:
            request = json.loads(body, parse_float=Number)
        except ValueError:
            return _response(200, _error(-32700, "Parse error: JSON parse error", None, "RPC-PARSE-ERROR"))
        if _depth(request) > 10:
            deep = "Parse error: JSON nesting too deep (max 10 levels)"
            return _response(200, _error(-32700, deep, None, "RPC-PARSE-ERROR"))
        if not isinstance(request, list):
            return _response(200, self._answer(request))
        if len(request) > 100:
            large = "Batch size too large (max 100 requests)"
            return _response(200, _error(-32600, large, None, "RPC-BATCH-TOO-LARGE"))
        self.tokens -= 1
        return _response(200, b"[%b]" % b",".join(self._answer(one) for one in request))

    def _may_pass(self, head: bytes) -> bool:
        found = re.search(rb"\r\nAuthorization: Basic ([^\r]*)", head)  # exact spelling
        if found is None:
            return False
        with self.handling:
            threading.Event().wait(self._login_seconds)  # the password is hashed a hundred thousand times
        good = base64.b64decode(found[1]).decode() == self.account
        self.failures = 0 if good else self.failures + 1
        return good

    # JSON-RPC

    def _answer(self, request: dict[str, Any]) -> bytes:
        id = request.get("id")
        if request.get("jsonrpc", "2.0") != "2.0":
            return _error(-32600, "Invalid Request", id, "RPC-INVALID-REQUEST")
        method, params = request["method"], request.get("params") or []
        self.methods.append(method)
        with self.handling:
            try:
                return b'{"jsonrpc":"2.0","result":%b,"id":%b}' % (self._call(method, params), _id(id))
            except LookupError:
                return _error(-32601, f"Method not found: {method}", id, "RPC-METHOD-NOT-FOUND")
            except ValueError as error:
                return _error(-32603, str(error), id)

    def _call(self, method: str, params: Any) -> bytes:
        needed = _NAMED_ONLY.get(method)
        if needed is not None and (not isinstance(params, dict) or needed not in params):
            raise ValueError(f"Missing {needed} parameter")
        special = getattr(self, f"_{method}", None)
        if special is not None:
            return json.dumps(special(params), default=float).encode()
        text: str = RECORDED["results"][method]
        return text.encode()

    def _getblockcount(self, params: Any) -> int:
        return len(self.chain) - 1

    def _getbestblockhash(self, params: Any) -> Any:
        return self.chain[-1]["hash"]

    def _getblockchaininfo(self, params: Any) -> Any:
        info = json.loads(RECORDED["results"]["getblockchaininfo"])
        return {**info, "blocks": len(self.chain) - 1, "bestblockhash": self.chain[-1]["hash"]}

    def _getblockhash(self, params: Any) -> Any:
        height = params["height"]
        if not 0 <= height < len(self.chain):
            raise ValueError("Block height out of range")
        return {"blockhash": self.chain[height]["hash"]}

    def _getblock(self, params: Any) -> Any:
        found = self.orphans.get(params["hash"])
        for block in self.chain:
            if block["hash"] == params["hash"]:
                found = block
        if found is None:
            raise ValueError(f'Block not found: "{params["hash"]}"')
        if params.get("verbosity") == 2:
            return {**found, "tx": [{"txid": txid, **self.details.get(txid, {})} for txid in found["tx"]]}
        return found

    def _getminingaddress(self, params: Any) -> Any:
        return {"address": self.mining_address, "is_set": bool(self.mining_address)}

    def _getrawmempool(self, params: Any) -> Any:
        return list(self.mempool)

    def _getrawtransaction(self, params: Any) -> Any:
        if params["txid"] not in self.mempool:
            raise ValueError("Transaction not found")
        return self.mempool[params["txid"]]

    def _getpeerinfo(self, params: Any) -> Any:
        return self.peers

    def _getmininginfo(self, params: Any) -> Any:
        return self.mining

    def _gettxout(self, params: Any) -> Any:
        # The node writes the text again with sorted names, and looks for `n` before `txid`.
        if not isinstance(params, dict) or "n" in params or not isinstance(params.get("z"), dict):
            raise ValueError("Missing n parameter")
        return {"txid": params["txid"], "n": params["z"]["n"]}

    def _estimatesendfee(self, params: Any) -> Any:
        """Tells how many ions it has understood."""
        if isinstance(params, list):
            coins = float(params[1])
        elif isinstance(params["amount"], str):
            raise ValueError("Invalid amount")
        else:
            coins = float(re.match(r"[0-9.]+", repr(float(params["amount"])))[0])  # type: ignore[index]
        return {"ions": int(coins * 1e8)}

    _sendtoaddress = _estimatesendfee

    def _createhtlc(self, params: Any) -> Any:
        if not isinstance(params, dict):
            raise ValueError("Missing amount parameter")
        return self._estimatesendfee(params)

    def _setminingaddress(self, params: Any) -> Any:
        if not isinstance(params, list) or len(params) != 1:
            raise ValueError("Invalid parameters")
        return {"address": params[0], "success": True}

    def _waitfornewblock(self, params: Any) -> Any:
        raise AssertionError("a call that waits has reached the node")

    _waitforblock = _waitforblockheight = _waitfornewblock

    def _slow(self, params: Any) -> Any:
        self.held.wait(20)
        return "slow"

    def _wrong(self, params: Any) -> Any:
        raise ValueError('no block "00" here')


class Number(float):
    """A float that remembers nothing: what digits it had is lost, as in the node."""


def _depth(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(_depth, value.values()), default=0)
    return 1 + max(map(_depth, value), default=0) if isinstance(value, list) else 0


def _id(id: Any) -> bytes:
    """As the node writes it: a string that begins like a number loses its quotes, and nothing is escaped."""
    if isinstance(id, str):
        return id.encode() if id[:1].isdigit() or id[:1] == "-" else b'"%b"' % id.encode()
    return json.dumps(id).encode()


def _error(code: int, message: str, id: Any, name: str = "") -> bytes:
    more = b',"error_code":"%b","recovery_steps":["Wait","Try again"]' % name.encode() if name else b""
    return b'{"jsonrpc":"2.0","error":{"code":%d,"message":"%b"%b},"id":%b}' % (code, message.encode(), more, _id(id))


def _response(status: int, body: bytes, length: int | None = None, kind: str = "application/json") -> bytes:
    size = len(body) if length is None else length
    head = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n"
    return head.encode() + body

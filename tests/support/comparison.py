"""Compare a node with itself behind the gateway, method by method, by POST and WebSocket; classify each difference."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from dilithion_ws.client import Client
from dilithion_ws.errors import RpcError

__all__ = ["CORE_CALLS", "DILITHION_CALLS", "Asked", "Difference", "compare", "core_calls"]

Asked = tuple[str, Any]
"""A method and its params."""

_NEVER = {
    *("stop", "invalidateblock", "reconsiderblock", "preciousblock", "pruneblockchain", "savemempool", "encryptwallet"),
    *(
        "setmocktime",
        "mockscheduler",
        "logging",
        "setnetworkactive",
        "disconnectnode",
        "addnode",
        "clearbanned",
        "setban",
    ),
    *(
        "getnewaddress",
        "getrawchangeaddress",
        "keypoolrefill",
        "newkeypool",
        "sethdseed",
        "upgradewallet",
        "abortrescan",
    ),
    *(
        "waitfornewblock",
        "syncwithvalidationinterfacequeue",
        "echo",
        "echojson",
        "echoipc",
        "rescanblockchain",
        "backupwallet",
    ),
    *(
        "dumpwallet",
        "walletlock",
        "walletpassphrase",
        "createwallet",
        "loadwallet",
        "unloadwallet",
        "restorewallet",
        "ping",
    ),
}
"""Methods that change something, or answer differently each time."""

_VARIES = re.compile(
    r'"(time|timemillis|conntime|lastsend|lastrecv|bytessent|bytesrecv|bytes_sent|bytes_recv|totalbytesrecv|totalbytessent|'
    r"duration|uptime|time_left_in_cycle|preimage|hash|unlocked_until|used|free|locked|chunks_used|chunks_free|total|txrate|curtime"
    r')": [^,}\]]+'
)
_VARYING_METHODS = {"uptime", "getmemoryinfo", "getrpcinfo", "getnettotals", "generatepreimage"}
_OWN_ERRORS = {-32601: "the server's own words", -32700: "the server's own words", -32602: "params are checked before"}


class Node(Protocol):
    """Asks the node itself."""

    def post(self, path: str, body: bytes) -> tuple[int, Any]: ...


class Difference(NamedTuple):
    """A call whose answers differ.

    Attributes:
        method, params: the call.
        way: `POST` or `WebSocket`.
        direct, through: the answers.
        reason: why that is right, or "" if it is not known to be.
    """

    method: str
    params: Any
    way: str
    direct: Any
    through: Any
    reason: str


CORE_CALLS: tuple[Asked, ...] = (
    ("getblockhash", [0]),
    ("getblockhash", {"height": 0}),
    ("getblockhash", [10**6]),
    ("getblockhash", ["x"]),
    ("gettxout", ["00" * 32, 0]),
    ("decodescript", ["51"]),
    ("decoderawtransaction", ["00"]),
    ("sendrawtransaction", ["00"]),
    ("validateaddress", ["x"]),
    ("help", ["getblockcount"]),
    ("estimatesmartfee", [6]),
    ("nosuch", []),
)
"""Calls with params; those without are made of all methods that the node's `help` lists."""

DILITHION_CALLS: tuple[Asked, ...] = (
    *((name, []) for name in ("getblockcount", "getbestblockhash", "getblockchaininfo", "getchaintips", "checkchain")),
    *((name, []) for name in ("getindexinfo", "getholdercount", "getrawmempool", "getmempoolinfo", "getaddresses")),
    *((name, []) for name in ("getbalance", "listunspent", "getwalletinfo", "gethdwalletinfo", "listhdaddresses")),
    *((name, []) for name in ("getmininginfo", "getminingaddress", "getnetworkinfo", "getconnectioncount")),
    *((name, []) for name in ("listbanned", "listbannedmiks", "getdfmpinfo", "getmikdistribution", "checkblockdb")),
    ("getblockhash", {"height": 0}),
    ("getblockhash", [0]),
    ("getblockhash", {"height": 10**6}),
    ("getblock", {"hash": "00" * 32}),
    ("gettxout", {"txid": "00" * 32, "n": 0}),
    ("gettopholders", {"count": 2}),
    ("getrawtransaction", {"txid": "00" * 32}),
    ("decoderawtransaction", {"hex": "00"}),
    ("gettransaction", {"txid": "00" * 32}),
    ("listtransactions", {"count": 2}),
    ("nosuch", []),
)

_BY_NAME_ONLY = "the node takes these params by name only"


def core_calls(node: Node) -> list[Asked]:
    """Return a call without params of each method of a node of Core's family, and those with params."""
    text = node.post("/", b'{"method":"help","params":[],"id":1}')[1]["result"]
    names = [line.split()[0] for line in text.splitlines() if line and not line.startswith("==")]
    return [*((name, []) for name in names if name not in _NEVER), *CORE_CALLS]


def compare(node: Node, calls: Sequence[Asked], url: str, post: Any) -> Iterator[Difference]:
    """Yield the differences.

    Args:
        node: answers directly.
        calls: what to call.
        url: of the gateway.
        post: sends the gateway a body, and returns status and answer.
    """
    with Client(url) as client:
        for method, params in calls:
            body = json.dumps({"method": method, "params": params, "id": 7}).encode()
            direct = node.post("/", body)
            through = post(body)
            if _plain(method, direct) != _plain(method, through):
                yield Difference(method, params, "POST", direct, through, _reason(method, params, direct, through))
            websocket = _call(client, method, params)
            wanted = {key: direct[1].get(key) for key in ("result", "error")}
            if _plain(method, wanted) != _plain(method, websocket):
                reason = _reason(method, params, direct, (200, websocket))
                yield Difference(method, params, "WebSocket", direct, websocket, reason)


def _call(client: Client, method: str, params: Any) -> dict[str, Any]:
    try:
        named = params if isinstance(params, dict) else {}
        result = client.call(method, *(() if named else params), **named)
        return {"result": result, "error": None}
    except RpcError as error:
        return {"result": None, "error": {"code": error.code, "message": error.message}}


def _plain(method: str, answer: Any) -> Any:
    """Return an answer as text, without what is another each time."""
    if method in _VARYING_METHODS:
        return type(answer)
    if isinstance(answer, tuple) and isinstance(answer[1], dict):
        answer = answer[0], {key: value for key, value in answer[1].items() if key != "position"}
    return _VARIES.sub("", json.dumps(answer, sort_keys=True, default=float))


def _reason(method: str, params: Any, direct: tuple[int, Any], through: tuple[int, Any]) -> str:
    direct_error, error = direct[1].get("error"), through[1].get("error")
    if isinstance(error, dict) and error["code"] in _OWN_ERRORS and direct_error:
        return _OWN_ERRORS[error["code"]]
    if direct_error and error is None and isinstance(params, list) and params:
        return _BY_NAME_ONLY
    if direct_error and error is None and method == "gettxout":
        return "the node looks for params in the wrong order"
    same_error = (
        isinstance(direct_error, dict) and isinstance(error, dict) and direct_error["message"] == error["message"]
    )
    if same_error and direct_error["code"] == error["code"]:
        return "the same error, with more members"
    return ""

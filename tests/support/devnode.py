"""A development node whose methods a test calls without a network."""

from __future__ import annotations

import json
import threading
from decimal import Decimal
from typing import Any

from dilithion_ws import Config, Limits, RpcTable, Session, WebSocketServer
from dilithion_ws.devnode import DevNode
from dilithion_ws.devnode.methods import register_methods
from dilithion_ws.rpc.dispatcher import Dispatcher
from dilithion_ws.rpc.executor import Executor

__all__ = ["Desk", "serve_devnode"]

SESSION = Session(1, ("127.0.0.1", 1))


class Desk:
    """A node and its methods, called as a client would, without a network."""

    def __init__(self) -> None:
        self.node = DevNode(seed=11)
        self.stopped = threading.Event()
        self.rpc = RpcTable(ignores_surplus_params=True)
        register_methods(self.rpc, self.node, self.stopped.set)
        self.dispatcher = Dispatcher(self.rpc, Executor(Limits()))

    def answer(self, method: str, *params: Any, **named: Any) -> Any:
        message = json.dumps({"jsonrpc": "2.0", "method": method, "params": named or list(params), "id": 1})
        call: Any = self.dispatcher.receive(message.encode(), SESSION)
        return json.loads(call.run(), parse_float=Decimal)

    def call(self, method: str, *params: Any, **named: Any) -> Any:
        answer = self.answer(method, *params, **named)
        assert "result" in answer, answer
        return answer["result"]

    def error(self, method: str, *params: Any, **named: Any) -> str:
        error = self.answer(method, *params, **named)["error"]
        assert error["code"] == -32603
        message: str = error["message"]
        return message


def serve_devnode(node: DevNode, **options: Any) -> WebSocketServer:
    """Start a server with a development node, its blocks and its transactions. Options are those of `Config`."""
    rpc = RpcTable(ignores_surplus_params=True)
    server = WebSocketServer(rpc, Config(**options))
    register_methods(rpc, node, lambda: None)
    server.history("blocks", node.read_blocks, node.find_block)
    server.transactions(node.read_transactions, node.read_mempool)
    node.publish = server.publish
    return server.start()

"""The development node's methods, all of them."""

from __future__ import annotations

from collections.abc import Callable

from ... import RpcTable
from ..node import DevNode
from .chain_methods import register_chain_methods
from .control_methods import register_control_methods
from .swap_methods import register_swap_methods
from .upkeep_methods import register_upkeep_methods
from .wallet_methods import register_wallet_methods
from .wallet_security_methods import register_wallet_security_methods

__all__ = ["register_methods"]


def register_methods(rpc: RpcTable, node: DevNode, stop: Callable[[], object]) -> None:
    """Register the node's methods as a host does, through the public API alone.

    Args:
        rpc: the table.
        node: who answers.
        stop: called when a client asks for a stop.
    """
    register_chain_methods(rpc, node)
    register_wallet_methods(rpc, node)
    register_wallet_security_methods(rpc, node)
    register_swap_methods(rpc, node)
    register_upkeep_methods(rpc, node)
    register_control_methods(rpc, node, stop)

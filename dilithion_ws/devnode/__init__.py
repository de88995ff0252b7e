"""A development node: a small node in memory with real blocks and transactions, to develop clients against.

It has real proof of work (SHA3-256, at a trivial target), real transactions with inputs and outputs, a mempool, a wallet
whose balances follow the chain, and reorganisations. Only signatures are play: a spender reveals a secret of which the
address is the hash. Never use it for anything of value.
"""

from .node import DevNode

__all__ = ["DevNode"]

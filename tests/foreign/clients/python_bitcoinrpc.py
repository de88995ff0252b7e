# client: python-bitcoinrpc | pip: python-bitcoinrpc | transport: HTTP | checks: calls, batch, wallet, errors
import sys
from decimal import Decimal

from bitcoinrpc.authproxy import AuthServiceProxy, JSONRPCException

url, user, password = sys.argv[1:]
address = url.replace("://", f"://{user}:{password}@")
node = AuthServiceProxy(address)
assert AuthServiceProxy(f"{address}/wallet/a").getbalance() == Decimal(50)
count, genesis = node.batch_([["getblockcount"], ["getblockhash", 0]])
assert (count, genesis) == (node.getblockcount(), node.getblockhash(0))
try:
    node.nosuch()
    raise SystemExit("no error")
except JSONRPCException as error:
    assert error.code == -32601
print(node.getblockcount())

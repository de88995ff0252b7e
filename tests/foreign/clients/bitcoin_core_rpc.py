# client: bitcoin-core-rpc | pip: bitcoin-core-rpc | transport: HTTP | checks: calls, wallet, named params
import sys

sys.path.pop(0)
from bitcoin_core_rpc import BitcoinCoreRpcClient

url, user, password = sys.argv[1:]
node = BitcoinCoreRpcClient(url, user=user, password=password)
assert node.for_wallet("a").call("getbalance") == 50
assert len(node.call("getblockhash", {"height": 1})) == 64
print(node.call("getblockcount"))

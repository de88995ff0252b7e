# client: python-bitcoinlib | pip: python-bitcoinlib | transport: HTTP | checks: calls, batch, wallet
import sys

from bitcoin import SelectParams
from bitcoin.rpc import Proxy, RawProxy

SelectParams("regtest")
url, user, password = sys.argv[1:]
address = url.replace("://", f"://{user}:{password}@")
assert RawProxy(f"{address}/wallet/a").getbalance() == 50
batch = [{"method": "getblockcount", "params": [], "id": 7}, {"method": "uptime", "params": [], "id": 8}]
assert len(RawProxy(address)._batch(batch)) == 2
print(Proxy(address).getblockcount())

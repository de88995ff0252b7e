# client: bitcoin-requests | pip: bitcoin-requests | transport: HTTP | checks: calls, wallet
import sys

sys.path.pop(0)
from bitcoin_requests import BitcoinRPC

url, user, password = sys.argv[1:]
assert float(BitcoinRPC(f"{url}/wallet/a", user, password).getbalance()) == 50
print(BitcoinRPC(url, user, password).getblockcount())

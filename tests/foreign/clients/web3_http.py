# client: web3.py | pip: web3 | transport: HTTP | checks: calls
import sys

from web3 import HTTPProvider

url, user, password = sys.argv[1:]
provider = HTTPProvider(url.replace("://", f"://{user}:{password}@"))
print(provider.make_request("getblockcount", [])["result"])

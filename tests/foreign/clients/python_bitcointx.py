# client: python-bitcointx | pip: python-bitcointx | transport: HTTP | checks: calls
import sys

from bitcointx.rpc import RPCCaller

url, user, password = sys.argv[1:]
print(RPCCaller(url.replace("://", f"://{user}:{password}@")).getblockcount())

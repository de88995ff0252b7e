# client: jsonrpclib-pelix | pip: jsonrpclib-pelix | transport: HTTP | checks: calls, batch
import sys

sys.path.pop(0)
import jsonrpclib

url, user, password = sys.argv[1:]
for version in (1.0, 2.0):
    node = jsonrpclib.ServerProxy(url.replace("://", f"://{user}:{password}@"), version=version)
    assert len(node.getblockhash(0)) == 64
batch = jsonrpclib.MultiCall(node)
batch.getblockhash(1)
batch.uptime()
assert len(list(batch())) == 2
print(node.getblockcount())

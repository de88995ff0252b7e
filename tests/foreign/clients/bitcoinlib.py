# client: bitcoinlib (BitcoindClient) | pip: bitcoinlib | transport: HTTP | checks: calls
import os
import sys
import tempfile

sys.path.pop(0)
os.environ["BCL_DATA_DIR"] = os.environ["HOME"] = tempfile.mkdtemp()
from bitcoinlib.services.bitcoind import BitcoindClient

url, user, password = sys.argv[1:]
node = BitcoindClient("litecoin", url.replace("://", f"://{user}:{password}@"))
assert node.mempool() == []
print(node.blockcount())

# client: slick-bitcoinrpc | pip: slick-bitcoinrpc | transport: HTTP | checks: calls
import sys

from slickrpc import Proxy

url, user, password = sys.argv[1:]
print(Proxy(url.replace("://", f"://{user}:{password}@")).getblockcount())

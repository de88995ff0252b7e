# client: web3.py | pip: web3 | transport: WebSocket | checks: calls
import asyncio
import sys

from web3 import AsyncWeb3, WebSocketProvider


async def main(url: str) -> None:
    async with AsyncWeb3(WebSocketProvider(url)) as node:
        print((await node.provider.make_request("getblockcount", []))["result"])


asyncio.run(main(sys.argv[1]))

# client: jsonrpc-websocket | pip: jsonrpc-websocket | transport: WebSocket | checks: calls, subscribe
import asyncio
import sys

sys.path.pop(0)
from jsonrpc_websocket import Server


async def main(url: str) -> None:
    server = Server(url)
    await server.ws_connect()
    assert (await server.subscribe(topic="blocks"))["topic"] == "blocks"
    print(await server.getblockcount())
    await server.close()


asyncio.run(main(sys.argv[1]))

"""websockets, its asyncio server and its `broadcast`; pings on, as by default."""

import asyncio
import sys

from answers import answer, events, tls_context
from websockets.asyncio.server import ServerConnection, broadcast, serve

clients: set[ServerConnection] = set()


async def handle(socket: ServerConnection) -> None:
    clients.add(socket)
    try:
        async for message in socket:
            text, call = answer(message)
            for event in events(call):
                broadcast(clients - {socket}, event)
            await socket.send(text)
    finally:
        clients.discard(socket)


async def main() -> None:
    options = {"compression": None, "max_size": None, "backlog": 1024, "ssl": tls_context()}
    async with serve(handle, "127.0.0.1", int(sys.argv[1]), **options) as server:
        await server.serve_forever()


asyncio.run(main())

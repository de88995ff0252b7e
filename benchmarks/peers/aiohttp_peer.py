"""aiohttp."""

import sys

from aiohttp import WSMsgType, web
from answers import answer, events, tls_context

clients: set[web.WebSocketResponse] = set()


async def handle(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse(compress=False, max_msg_size=0)
    await socket.prepare(request)
    clients.add(socket)
    try:
        async for message in socket:
            if message.type is not WSMsgType.TEXT:
                break
            text, call = answer(message.data)
            for event in events(call):
                for other in clients:
                    if other is not socket:
                        await other.send_str(event)
            await socket.send_str(text)
    finally:
        clients.discard(socket)
    return socket


app = web.Application()
app.router.add_get("/", handle)
web.run_app(
    app, host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None, backlog=1024, ssl_context=tls_context()
)

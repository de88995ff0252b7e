"""picows: framing in Cython, with asyncio's own loop."""

import asyncio
import sys

from answers import answer, events, tls_context
from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server

clients: set[WSTransport] = set()


class Listener(WSListener):
    def on_ws_connected(self, transport: WSTransport) -> None:
        clients.add(transport)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        clients.discard(transport)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()
            return
        if frame.msg_type != WSMsgType.TEXT:
            return
        text, call = answer(frame.get_payload_as_bytes())
        for event in events(call):
            payload = event.encode()
            for other in clients:
                if other is not transport:
                    other.send(WSMsgType.TEXT, payload)
        transport.send(WSMsgType.TEXT, text.encode())


def listener(request: WSUpgradeRequest) -> WSListener:
    return Listener()


async def main() -> None:
    server = await ws_create_server(
        listener,
        "127.0.0.1",
        int(sys.argv[1]),
        max_frame_size=1 << 26,
        backlog=1024,
        enable_auto_ping=True,
        ssl=tls_context(),
    )
    await server.serve_forever()


asyncio.run(main())

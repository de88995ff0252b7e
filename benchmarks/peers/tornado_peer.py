"""tornado."""

import asyncio
import sys

import tornado.web
import tornado.websocket
from answers import answer, events

clients: set["Handler"] = set()


class Handler(tornado.websocket.WebSocketHandler):
    def open(self) -> None:
        clients.add(self)

    def on_close(self) -> None:
        clients.discard(self)

    def on_message(self, message: str | bytes) -> None:
        text, call = answer(message)
        for event in events(call):
            for other in clients:
                if other is not self:
                    other.write_message(event)
        self.write_message(text)


async def main() -> None:
    application = tornado.web.Application([("/", Handler)], websocket_max_message_size=1 << 26)
    application.listen(int(sys.argv[1]), "127.0.0.1", backlog=1024)
    await asyncio.Event().wait()


asyncio.run(main())

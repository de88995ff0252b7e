"""websockets, its server with a thread for each client; pings on, as by default."""

import sys
import threading
import time

from answers import answer, events
from websockets.sync.server import ServerConnection, serve

clients: set[ServerConnection] = set()
clients_lock = threading.Lock()


def handle(socket: ServerConnection) -> None:
    with clients_lock:
        clients.add(socket)
    try:
        for message in socket:
            text, call = answer(message)
            if call["method"] == "wait":
                time.sleep(0.02)
            for event in events(call):
                with clients_lock:
                    others = clients - {socket}
                for other in others:
                    other.send(event)
            socket.send(text)
    finally:
        with clients_lock:
            clients.discard(socket)


with serve(handle, "127.0.0.1", int(sys.argv[1]), compression=None, max_size=None) as server:
    server.socket.listen(1024)
    server.serve_forever()

"""simple-websocket: a thread for each client, and one more of its own."""

import socket
import sys
import threading
import time
from wsgiref.headers import Headers

import simple_websocket
from answers import answer, events

clients: set[simple_websocket.Server] = set()
clients_lock = threading.Lock()


def handle(connection: socket.socket) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    head = b""
    while b"\r\n\r\n" not in head:
        data = connection.recv(4096)
        if not data:
            return
        head += data
    lines = head.decode("latin-1").split("\r\n")[1:-2]
    headers = Headers([(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)])
    environ = {"HTTP_" + name.upper().replace("-", "_"): value for name, value in headers.items()}
    environ |= {"werkzeug.socket": connection, "PATH_INFO": "/", "QUERY_STRING": ""}
    client = simple_websocket.Server.accept(environ, max_message_size=1 << 26)
    with clients_lock:
        clients.add(client)
    try:
        while True:
            text, call = answer(client.receive())
            if call["method"] == "wait":
                time.sleep(0.02)
            for event in events(call):
                with clients_lock:
                    others = clients - {client}
                for other in others:
                    other.send(event)
            client.send(text)
    except simple_websocket.ConnectionClosed:
        pass
    finally:
        with clients_lock:
            clients.discard(client)
        connection.close()


with socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=1024) as listener:
    while True:
        threading.Thread(target=handle, args=(listener.accept()[0],), daemon=True).start()

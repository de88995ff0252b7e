"""socketify: uWebSockets, in C++, below Python."""

import sys

from answers import answer, events
from socketify import App, AppOptions, CompressOptions, OpCode


def on_open(socket):
    socket.subscribe("all")


def on_message(socket, message, opcode):
    text, call = answer(message)
    for event in events(call):
        socket.publish("all", event, OpCode.TEXT, False)  # to all but the sender
    socket.send(text, OpCode.TEXT)


tls = sys.argv[2:4]
app = App(AppOptions(cert_file_name=tls[0], key_file_name=tls[1])) if tls else App()
app.ws(
    "/",
    {
        "compression": CompressOptions.DISABLED,
        "max_payload_length": 1 << 26,
        "max_backpressure": 1 << 28,
        "open": on_open,
        "message": on_message,
    },
)
app.listen({"host": "127.0.0.1", "port": int(sys.argv[1])})
app.run()

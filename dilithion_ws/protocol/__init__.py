"""HTTP upgrade and WebSocket framing without sockets, threads or clocks: bytes go in, bytes and events come out."""

"""HTTP and WebSocket protocols without sockets, threads or clocks: bytes go in, bytes and events come out."""

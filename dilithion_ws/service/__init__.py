"""The application between the transport and the host: access control, JSON-RPC over WebSocket and HTTP, metrics."""

"""JSON-RPC 2.0 without sockets or threads: a table of methods, and a dispatcher from message to answer."""

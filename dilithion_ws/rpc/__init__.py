"""JSON-RPC 2.0 without sockets or threads: a table of methods, a dispatcher from messages to calls, and an executor."""

"""Sockets and threads: an acceptor, a pool of workers of which one leads, and the connections that they serve."""

"""Sockets and threads: an acceptor, a pool of workers of which one leads, and the connections they serve."""

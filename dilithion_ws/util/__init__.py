"""Helpers without a place in the domain: time, IP addresses, files, thread primitives."""

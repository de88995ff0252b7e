"""Helpers that know nothing about the domain: time, IP addresses, files, JSON, futures and thread primitives."""

"""Faults on purpose, and whether every subscriber gets every event, or an error that says where some are missing."""

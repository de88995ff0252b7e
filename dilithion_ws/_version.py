"""The version, for setup.py and for clients."""

__version__ = "0.1.0"

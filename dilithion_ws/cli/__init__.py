"""The command line: `dilithion-ws`, also `python -m dilithion_ws`."""

from .main import main

__all__ = ["main"]

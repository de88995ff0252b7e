from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


@contextmanager
def started(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A command in a process of its own, and the line with which it says that it is ready."""
    process = subprocess.Popen(
        [sys.executable, "-m", "dilithion_ws", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith(("Listening on ws://127.0.0.1:", "Listening on wss://127.0.0.1:")), (
            line + process.communicate()[1]
        )
        yield process, line
    finally:
        process.terminate()
        try:
            process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


@contextmanager
def serving(*options: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A server, and its port."""
    with started("serve", "--port", "0", *options) as (process, line):
        yield process, int(line.rpartition(":")[2])

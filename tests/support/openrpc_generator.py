"""OpenRPC's generator of clients, and the compiler that reads what it writes."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from .programs import NODE_MODULES

__all__ = ["generate"]

_OPTIONS = "--strict --noEmit --skipLibCheck --esModuleInterop --resolveJsonModule --target es2020 --module nodenext"


def generate(document: dict[str, Any], folder: Path) -> str:
    """Return the TypeScript that is generated, when it has been compiled."""
    (folder / "openrpc.json").write_text(json.dumps(document, default=float))
    tools = NODE_MODULES / ".bin"
    options = ["-d", "openrpc.json", "-o", ".", "-t", "client", "-l", "typescript", "-n", "nodeclient"]
    subprocess.run([tools / "open-rpc-generator", "generate", *options], check=True, cwd=folder, capture_output=True)
    source = folder / "client" / "typescript" / "src"
    (folder / "node_modules").symlink_to(NODE_MODULES)
    command: list[str | Path] = [tools / "tsc", *_OPTIONS.split(), source / "index.ts"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=folder, check=False)
    assert result.returncode == 0, result.stdout
    return (source / "index.ts").read_text()

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from dilithion_ws import WebSocketServer
from dilithion_ws.auth.passwords import hash_password
from dilithion_ws.auth.permissions import ROLES
from dilithion_ws.auth.users import User, UsersFile, render_users

from ..support.fixtures import ClientFactory
from . import REQUEST, RawClient

CHEAP = "scrypt:2:1:1"
"""A scheme that takes no time."""


def with_header(header: str) -> bytes:
    """Return an upgrade request with one more header."""
    return REQUEST[:-2] + header.encode() + b"\r\n\r\n"


def write_users(path: Path, **roles: str) -> None:
    """A users file in which every password is the name, doubled."""
    users = {name: User(name, role, ROLES[role], hash_password(name * 2, CHEAP)) for name, role in roles.items()}
    path.write_text(render_users(UsersFile(users, {})))
    path.chmod(0o600)


def basic(name: str, password: str | None = None) -> bytes:
    text = f"{name}:{name * 2 if password is None else password}"
    return with_header("Authorization: Basic " + base64.b64encode(text.encode()).decode())


def log_in(server: WebSocketServer, name: str, connect: ClientFactory) -> RawClient:
    client: RawClient = connect(server, upgrade=False)
    client.upgrade(basic(name))
    return client


def code(answer: Any) -> int | None:
    found: int | None = answer.get("error", {}).get("code")
    return found

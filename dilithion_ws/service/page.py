"""The page at `GET /`, and the client for JavaScript that it uses, at `GET /client.js`: two static files.

The content security policy of the page allows nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import re
from functools import lru_cache
from pathlib import Path

from ..protocol.http import HttpResponse

__all__ = ["client_script", "page"]


@lru_cache(maxsize=1)
def _parts() -> tuple[bytes, str]:
    """Return the page, and the part of its policy that allows its own script and style."""
    text = (Path(__file__).parent / "page.html").read_text(encoding="utf-8")
    sources = []
    for tag, others in (("script", "'self' "), ("style", "")):
        (content,) = re.findall(rf"<{tag}[^>]*>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        sources.append(f"{tag}-src {others}'sha256-{digest}'")
    return text.encode(), "; ".join(sources)


def page(host: str) -> HttpResponse:
    """Return the page for a browser that uses this host name (the Host header, which was checked)."""
    text, sources = _parts()
    policy = (
        f"default-src 'none'; {sources}; connect-src 'self' ws://{host} wss://{host}; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    headers = (
        (b"Content-Security-Policy", policy.encode("latin-1")),
        (b"X-Content-Type-Options", b"nosniff"),
        (b"Referrer-Policy", b"no-referrer"),
        (b"Cache-Control", b"no-cache"),
    )
    return HttpResponse(200, text, "text/html; charset=utf-8", headers)


@lru_cache(maxsize=1)
def client_script() -> bytes:
    """Return the client for JavaScript, a module."""
    return (Path(__file__).parent / "client.js").read_bytes()

"""The page at `GET /`, and the client for JavaScript that it uses, at `GET /client.js`: two static files.

The page is written as markup, a style sheet and modules in `page/`, and sent as one file with all of them in it. The
content security policy of the page allows nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import re
from functools import lru_cache
from pathlib import Path

from ..protocol.http import HttpResponse

__all__ = ["client_script", "page"]


_FOLDER = Path(__file__).parent / "page"
_IMPORT = re.compile(r"^import \{ ([^}]*) \} from '\./([\w-]+\.js)';\n", re.MULTILINE)
_CLIENT = "client.js"


def _script() -> str:
    """Return all modules as one: what a module imports stands before it, and the client stays a module of its own."""
    modules: dict[str, str] = {}
    from_client: set[str] = set()

    def add(name: str) -> None:
        if name in modules:
            return
        text = (_FOLDER / name).read_text(encoding="utf-8")
        for names, other in _IMPORT.findall(text):
            if other == _CLIENT:
                from_client.update(names.split(", "))
            else:
                add(other)
        modules[name] = re.sub(r"^export ", "", _IMPORT.sub("", text), flags=re.MULTILINE)

    add("main.js")
    return f"import {{ {', '.join(sorted(from_client))} }} from './{_CLIENT}';\n" + "\n".join(modules.values())


def _assemble() -> str:
    """Return the page with its style sheet and script in it."""
    text = (_FOLDER / "index.html").read_text(encoding="utf-8")
    style = (_FOLDER / "style.css").read_text(encoding="utf-8")
    return text.replace("/* style.css */", style).replace("/* main.js */", _script())


@lru_cache(maxsize=1)
def _parts() -> tuple[bytes, str]:
    """Return the page, and the part of its policy that allows its own script and style."""
    text = _assemble()
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

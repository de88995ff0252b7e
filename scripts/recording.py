"""See scripts/recording."""

from __future__ import annotations

import html
import os
import pty
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 20.0
COLUMNS, ROWS = 96, 26
LINE_HEIGHT, CHARACTER_WIDTH = 18, 8.4
COLOURS = {"31": "#ff8f85", "32": "#4ac585", "36": "#6cc7d6"}
COMMANDS = (
    "dilithion-ws call getblockcount",
    "dilithion-ws topics",
    "dilithion-ws watch blocks mempool --count 11",
    "dilithion-ws status",
)
STYLE = "text { font: 14px ui-monospace, Menlo, Consolas, monospace; fill: #e4e9f0; white-space: pre }"

Line = tuple[float, str]
"""When a line appeared, in seconds, and its text with escape sequences."""


def record(port: str) -> list[Line]:
    """Run the commands in a terminal. Return their lines."""
    lines: list[Line] = []
    begin = time.monotonic()
    for command in COMMANDS:
        lines.append((time.monotonic() - begin, f"$ {command}"))
        arguments = [sys.executable, "-m", *command.replace("-", "_", 1).split(), "--url", f"ws://127.0.0.1:{port}"]
        leader, follower = pty.openpty()
        environment = {**os.environ, "COLUMNS": str(COLUMNS), "LINES": str(ROWS)}
        process = subprocess.Popen(
            arguments, stdout=follower, stderr=follower, stdin=follower, cwd=ROOT, env=environment
        )
        os.close(follower)
        text = b""
        while True:
            try:
                chunk = os.read(leader, 65536)
            except OSError:  # the command has ended
                break
            *whole, text = (text + chunk).split(b"\r\n")
            lines += [(time.monotonic() - begin, line.decode()) for line in whole]
        os.close(leader)
        process.wait()
        lines.append((time.monotonic() - begin, ""))
    return lines[:-1]


def spans(text: str) -> str:
    """Return a line as text of SVG, coloured as its escape sequences say."""
    found = []
    colour = ""
    for part in re.split(r"(\x1b\[\d*m)", text):
        if part.startswith("\x1b["):
            colour = COLOURS.get(part[2:-1], "")
        elif part:
            fill = f' fill="{colour}"' if colour else ""
            found.append(f"<tspan{fill}>{html.escape(part)}</tspan>")
    return "".join(found)


def draw(lines: list[Line]) -> str:
    """Return an SVG in which the lines appear as they did, again and again."""
    end = max(moment for moment, _ in lines) + 3.0
    scale = min(1.0, (SECONDS - 3.0) / end)
    height = (len(lines) + 1) * LINE_HEIGHT + 12
    width = int(COLUMNS * CHARACTER_WIDTH) + 24
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">']
    parts += ["<title>Commands of dilithion-ws in a terminal</title>", "<style>", STYLE]
    for number, (moment, _) in enumerate(lines):
        part = 100 * moment * scale / SECONDS
        parts.append(
            f"@keyframes l{number} {{ 0%, {part:.2f}% {{ opacity: 0 }} {part + 0.01:.2f}%, 100% {{ opacity: 1 }} }}"
            f" #l{number} {{ animation: l{number} {SECONDS:g}s infinite }}"
        )
    parts.append("@media (prefers-reduced-motion) { text { animation: none !important } }")
    parts += ["</style>", f'<rect width="{width}" height="{height}" rx="8" fill="#0f141b"/>']
    for number, (_, text) in enumerate(lines):
        y = (number + 1) * LINE_HEIGHT + 6
        parts.append(f'<text id="l{number}" x="12" y="{y}" xml:space="preserve">{spans(text)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def main() -> int:
    """Record, and write the file."""
    command = [sys.executable, "-m", "dilithion_ws", "serve", "--dev", "--port", "0", "--block-interval", "2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT) as server:
        try:
            assert server.stdout is not None
            port = server.stdout.readline().rpartition(":")[2].strip()
            lines = record(port)
        finally:
            server.terminate()
    (ROOT / "docs" / "terminal.svg").write_text(draw(lines))
    print("docs/terminal.svg")
    return 0


if __name__ == "__main__":
    sys.exit(main())

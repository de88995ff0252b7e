"""See scripts/screenshots."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.support import wait_for
from tests.support.browser import Browser
from tests.support.commands import serving

FOLDER = ROOT / "docs" / "page"
PASSWORD = "correct horse"


def main() -> int:
    """Take all pictures."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, Browser() as browser:
        settings = Path(folder) / "dilithion.conf"
        settings.write_text(f"rpcuser=alice\nrpcpassword={PASSWORD}\n")
        os.chmod(settings, 0o600)

        def take(name: str, *, width: int = 1280, height: int = 900, dark: bool = False) -> None:
            browser.screenshot(FOLDER / f"{name}.png", width=width, height=height, dark=dark)
            print(f"docs/page/{name}.png")

        def until(expression: str) -> None:
            wait_for(lambda: browser.run(expression), 60, expression)

        with serving("--dev", "--block-interval", "1", "--conf", str(settings)) as (process, port):
            browser.resize(1280, 900, dark=False)
            browser.open(f"http://localhost:{port}/")
            until("document.getElementById('login')?.open && document.activeElement.id === 'user'")
            browser.insert("alice")
            browser.press("Tab")
            browser.insert("wrong")
            browser.press("Enter")
            until("document.getElementById('reason').textContent.includes('Wrong')")
            take("login")
            browser.run("document.getElementById('password').select()")
            browser.insert(PASSWORD)
            browser.press("Enter")
            until("document.querySelectorAll('#numbers dd').length > 0")
            until("document.querySelectorAll('#mempool li').length > 20")
            until("document.querySelectorAll('#blocks button')[7]?.textContent.includes('B')")
            take("dashboard", height=1180)
            take("narrow", width=400, height=1000, dark=True)
            browser.resize(1280, 900, dark=True)
            browser.run("document.querySelectorAll('#blocks button')[2].click()")
            until("document.getElementById('details').textContent.includes('Block ')")
            take("block", dark=True)
            browser.run(
                "[...document.querySelectorAll('#methods button')].find(b => /^getblockhash/.test(b.textContent)).click()"
            )
            browser.run("document.querySelector('#fields input').focus()")
            browser.insert("100")
            browser.run("document.getElementById('call').click()")
            until("document.querySelectorAll('#results .value').length > 0")
            browser.run("document.getElementById('browser').scrollIntoView()")
            take("methods")
            browser.run("scrollTo(0, 0)")
            process.terminate()
            until("document.getElementById('banners').textContent.includes('lost')")
            take("disconnected")
    return 0


if __name__ == "__main__":
    sys.exit(main())

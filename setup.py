"""Build the package. Everything but its long description is declared in pyproject.toml.

Links of README.md are relative, so that they lead to the files beside it, wherever the repository is. On the page of a
package index they would lead nowhere. So `DILITHION_WS_SOURCE`, the address under which a file of the repository can be
read, makes them absolute in the metadata of a release:

    DILITHION_WS_SOURCE=https://example.org/dilithion_ws/blob/v1.0.0/ python -m build

`DILITHION_WS_IMAGES` is the same for images, if they are read elsewhere than pages (as raw files).
"""

import os
import re
from pathlib import Path

from setuptools import setup

_RELATIVE_LINK = re.compile(r"(!?)(\[[^\]]*\]\()(?![a-z]+:|#)")


def _long_description() -> str:
    text = Path(__file__).with_name("README.md").read_text("utf-8")
    source = os.environ.get("DILITHION_WS_SOURCE", "").rstrip("/")
    images = os.environ.get("DILITHION_WS_IMAGES", source).rstrip("/")
    if not source:
        return text
    return _RELATIVE_LINK.sub(lambda found: f"{found[0]}{images if found[1] else source}/", text)


setup(long_description=_long_description(), long_description_content_type="text/markdown")

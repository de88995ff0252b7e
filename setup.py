"""Packaging of dilithion_ws; settings of the tools are in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "dilithion_ws/_version.py").read_text())[1]

PROMETHEUS = ["prometheus-client>=0.20"]
REDIS = ["redis>=5.0"]
GATEWAY = ["urllib3>=2.0"]
ZMQ = ["pyzmq>=25.0"]
BENCH = [
    "aiohttp>=3.9",
    "matplotlib>=3.8",
    "picows>=2.0",
    "simple-websocket>=1.0",
    "socketify>=0.0.28",
    "tornado>=6.4",
    "trustme>=1.1",
]
TEST = [
    "coverage>=7.4",
    "hypothesis>=6.100",
    "jsonschema>=4.20",
    "mypy>=1.10",
    "pytest>=8.0",
    "pytest-cov>=5.0",
    "pytest-timeout>=2.3",
    "python-bitcoinrpc>=1.0",
    "ruff>=0.5",
    "trustme>=1.1",
    "websocket-client>=1.8",
    "websockets>=13.0",
]

setup(
    name="dilithion-ws",
    version=VERSION,
    description="A WebSocket server to embed in a Dilithion node: JSON-RPC 2.0 over RFC 6455 from a thread pool",
    long_description=(HERE / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.10",
    packages=find_packages(include=["dilithion_ws", "dilithion_ws.*"]),
    package_data={"dilithion_ws": ["py.typed", "service/page.html"]},
    install_requires=["h11>=0.14", "msgspec>=0.19", "wsproto>=1.2"],
    extras_require={
        "bench": BENCH,
        "gateway": GATEWAY,
        "prometheus": PROMETHEUS,
        "redis": REDIS,
        "speed": ["websockets>=13.0"],
        "test": TEST + REDIS + PROMETHEUS + GATEWAY + ZMQ,
        "zmq": GATEWAY + ZMQ,
    },
    entry_points={"console_scripts": ["dilithion-ws = dilithion_ws.cli:main"]},
    classifiers=[
        "License :: OSI Approved :: MIT License",
        "Operating System :: POSIX",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Typing :: Typed",
    ],
)

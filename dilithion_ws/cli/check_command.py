"""`dilithion-ws check`: looks at a configuration as the server would, and reports what is unsafe or cannot be used."""

from __future__ import annotations

import argparse
import json

from ..config.config import Config
from ..config.sources import LoadedConfig
from ..errors import ConfigError
from .checks import Finding, Level, check_exposure_and_users, check_files, check_machine, check_store, check_tls
from .config_options import add_settings, conf_file, load_settings
from .gateway_command import add_gateway_settings, load_gateway, load_gateway_server
from .serve_command import DEFAULT_PORT

__all__ = ["add_check"]


def add_check(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "check",
        help="check a configuration",
        description="Reads the configuration as `serve` would, or with --gateway as `gateway` would, and reports who can "
        "reach the server and as whom, which files are too open, and whether port, certificate, event store and node can "
        "be used. It changes nothing. Exits with 0 if the server would start and work, and with 1 otherwise.",
    )
    parser.add_argument("--gateway", action="store_true", help="check the configuration of a gateway")
    parser.add_argument("--strict", action="store_true", help="exit with 1 for warnings, too")
    parser.add_argument("--json", action="store_true", help="print JSON, one finding a line")
    parser.add_argument("--verbose", action="store_true", help=argparse.SUPPRESS)
    add_gateway_settings(parser)
    add_settings(parser)
    parser.set_defaults(run=check)


def check(options: argparse.Namespace) -> int:
    """Print the findings. Return 1 if there is an error among them."""
    findings = _find(options)
    for finding in findings:
        if options.json:
            print(json.dumps({"level": finding.level.value, "about": finding.about, "text": finding.text}))
        else:
            print(f"{finding.level.value:7}  {finding.about:8}  {finding.text}")
    bad = {Level.ERROR, Level.WARNING} if options.strict else {Level.ERROR}
    return 1 if any(finding.level in bad for finding in findings) else 0


def _find(options: argparse.Namespace) -> list[Finding]:
    loaded: LoadedConfig[Config]
    more: list[Finding] = []
    lends_account = False
    try:
        if options.gateway:
            try:
                from .node_checks import check_node
            except ImportError as error:
                return [
                    Finding(
                        Level.ERROR, "gateway", f"the gateway needs the package {error.name}: pip install {error.name}"
                    )
                ]
            gateway = load_gateway(options)
            loaded = load_gateway_server(options, gateway)
            lends_account = gateway.has_account
            more = check_node(gateway, loaded)
        else:
            loaded = load_settings(options, {"rpcwebsocketport": DEFAULT_PORT})
    except ConfigError as error:
        return [Finding(Level.ERROR, "settings", str(error))]
    config = loaded.config
    return [
        *check_exposure_and_users(config, lends_account),
        *check_files(config, conf_file(options)),
        *check_tls(config),
        *check_machine(config),
        *check_store(config),
        *more,
    ]

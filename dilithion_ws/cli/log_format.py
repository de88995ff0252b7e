"""The lines that the commands write to standard error: text for people, or JSON for programs that collect logs."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from datetime import datetime, timezone

__all__ = ["JsonFormatter", "add_log_format", "configure_logging"]

_AUDIT = "dilithion_ws.audit"


def add_log_format(parser: argparse.ArgumentParser) -> None:
    """Add the options of a command that runs for long."""
    parser.add_argument("--verbose", action="store_true", help="log more, to standard error")
    parser.add_argument(
        "--log-format", choices=("text", "json"), default="text", help="how lines are logged (default: %(default)s)"
    )


def configure_logging(options: argparse.Namespace) -> None:
    """Log to standard error, as the options of a command say.

    A command that does not run for long reports like any other program does, unless it is to log more.
    """
    handler = logging.StreamHandler(sys.stderr)
    chosen = getattr(options, "log_format", None)
    is_short = chosen is None and not options.verbose
    text = "dilithion-ws: %(message)s" if is_short else "%(asctime)s %(levelname)s %(name)s: %(message)s"
    handler.setFormatter(JsonFormatter() if chosen == "json" else logging.Formatter(text))
    logging.basicConfig(level=logging.DEBUG if options.verbose else logging.INFO, handlers=[handler])


class JsonFormatter(logging.Formatter):
    """Formats each record as one line of JSON: time, level, logger and message, and the traceback if there is one.

    A line of the audit log, which is JSON itself, is the member `audit` instead of a message.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        moment = datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds")
        line: dict[str, object] = {"time": moment, "level": record.levelname, "logger": record.name}
        if record.name == _AUDIT:
            line["audit"] = json.loads(record.getMessage())
        else:
            line["message"] = record.getMessage()
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)

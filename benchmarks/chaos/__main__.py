"""Do harm to servers, and say what their subscribers got.

    scripts/chaos                  all scenarios, in about half an hour
    scripts/chaos --short          in a few minutes
    scripts/chaos --list           what there is
    scripts/chaos kill full-disk   some of them

Each scenario ends with a verdict: held, FAILED, or "not here", if the machine does not have what it needs. The status is
1 if one has failed. A subscriber checks that it gets every event once and in order, with the content that the others see,
or an error that says where events are missing. Some scenarios need root.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from . import machine, node, stores  # noqa: F401 - they add their scenarios
from .scenario import SCENARIOS, NotHereError, Terms


def run(name: str, short: bool) -> bool:
    """Run a scenario, and print its verdict. Return False if it has failed."""
    chosen = SCENARIOS[name]
    print(f"{name}: {chosen.promise}", flush=True)
    started = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            figures = chosen.run(Terms(Path(folder), short))
        verdict, is_good = f"held ({figures})", True
    except NotHereError as error:
        verdict, is_good = f"not here: {error}", True
    except Exception as error:  # whatever it is, the other scenarios are run
        verdict, is_good = f"FAILED: {error!r}", False
    print(f"    {verdict}, {time.monotonic() - started:.0f} s", flush=True)
    return is_good


def main() -> int:
    """Run what the command line says. Return the exit status."""
    parser = argparse.ArgumentParser(
        prog="scripts/chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="SCENARIO", help="which ones; default: all")
    parser.add_argument("--short", action="store_true", help="seconds instead of minutes")
    parser.add_argument("--list", action="store_true", help="print what there is")
    options = parser.parse_args()
    if options.list:
        for one in SCENARIOS.values():
            print(f"{one.name:16} {one.promise}")
        return 0
    unknown = set(options.names) - set(SCENARIOS)
    if unknown:
        parser.error(f"there is no scenario {sorted(unknown)[0]}; see --list")
    verdicts = [run(name, options.short) for name in options.names or SCENARIOS]
    return 0 if all(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())

"""Fuzz what a client that is not logged in can reach.

    scripts/fuzz [--cases N] [--seed N]

A failure prints its case, which belongs into tests/server/test_fuzz.py then.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
import traceback

from .support.fuzzing import FuzzTarget, cases

_REPORT_SECONDS = 10.0


def main() -> int:
    """Run the cases. Return 1 after the first failure."""
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description="Fuzzes the server before the login.")
    parser.add_argument("--cases", type=int, default=100_000, help="how many (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="which ones (default: %(default)s)")
    options = parser.parse_args()
    began = reported = time.monotonic()
    with FuzzTarget() as target:
        for number, pieces in enumerate(itertools.islice(cases(options.seed), options.cases), 1):
            try:
                target.run(pieces)
            except Exception:
                traceback.print_exc()
                print(f"case {number} of seed {options.seed}: {pieces!r}")
                return 1
            if time.monotonic() > reported + _REPORT_SECONDS:
                reported = time.monotonic()
                rate = number / (reported - began)
                print(f"{number} cases, {rate:.0f} a second, slowest step {target.slowest * 1000:.2f} ms", flush=True)
        slowest = f"slowest step {target.slowest * 1000:.2f} ms, {target.outliers} that were slow once only"
        print(f"{options.cases} cases without a failure, {slowest}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Fails when work takes more than 5 % more instructions than it did when ``instructions.json`` was written.

    python contrib/benchmarks/gate.py            compare
    python contrib/benchmarks/gate.py --write    keep what is counted now as what later runs are compared with

Counts are compared as multiples of a reference in plain Python, by exact version of Python: other versions, and other
builds, need other work for the same code. An improvement of more than 5 % fails, too: what is kept would hide the next
loss. It needs valgrind (``apt-get install valgrind``) and takes a minute or two.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from pathlib import Path

from bench.instructions import REFERENCE, CountFailed, count

__all__ = ['compare', 'main']

KEPT = Path(__file__).with_name('instructions.json')
TOLERANCE = 0.05


def compare(now: dict[str, float], before: dict[str, float]) -> list[str]:
    """Return a line about each work whose count is not near what it was."""
    faults = [f'{name} is not in both' for name in sorted(now.keys() ^ before.keys())]
    for name in now.keys() & before.keys():
        change = now[name] / before[name] - 1
        if abs(change) > TOLERANCE:
            faults.append(f'{name}: {change:+.1%}' + ('' if change > 0 else ', which is to be kept (--write)'))
    return sorted(faults)


def main(arguments: list[str] | None = None) -> int:
    """Count and compare; return the exit status: 1 when something has changed, 2 when nothing could be counted."""
    parser = argparse.ArgumentParser(prog='gate.py', description='Compare counts of instructions with those kept.')
    parser.add_argument('--write', action='store_true', help='keep what is counted')
    options = parser.parse_args(arguments)
    version = platform.python_version()
    kept: dict[str, dict[str, float]] = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    if version not in kept and not options.write:
        print(f'{KEPT.name} knows nothing of Python {version}: add it with --write', file=sys.stderr)
        return 2
    try:
        counted = count()
    except CountFailed as error:
        print(error, file=sys.stderr)
        return 2
    now = {name: value / counted[REFERENCE] for name, value in counted.items() if name != REFERENCE}
    for name, value in now.items():
        print(f'{name:<24}{counted[name]:>12,.0f} instructions, {value:.5f} of the reference')
    if options.write:
        kept[version] = {name: round(value, 6) for name, value in now.items()}
        KEPT.write_text(json.dumps(kept, indent=2, sort_keys=True) + '\n')
        return 0
    faults = compare(now, kept[version])
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


if __name__ == '__main__':
    sys.exit(main())

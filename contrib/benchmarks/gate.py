"""Fail if a work takes over 5 % more instructions than in ``instructions.json``.

    python contrib/benchmarks/gate.py            compare
    python contrib/benchmarks/gate.py --write    store the counts for later comparisons

Counts are compared as multiples of a reference in plain Python, by exact version of Python: other versions, and other
builds, need other numbers of instructions for the same code. An improvement of more than 5 % fails, too, because the
stored count would hide the next loss. The gate needs valgrind (``apt-get install valgrind``) and takes a minute or two.
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
    """Return a line for each work with a changed count."""
    faults = [f'{name} is not in both' for name in sorted(now.keys() ^ before.keys())]
    for name in now.keys() & before.keys():
        change = now[name] / before[name] - 1
        if abs(change) > TOLERANCE:
            faults.append(f'{name}: {change:+.1%}' + ('' if change > 0 else '; store the new count with --write'))
    return sorted(faults)


def main(arguments: list[str] | None = None) -> int:
    """Count and compare; return the exit status: 1 for changes, 2 if counting failed."""
    parser = argparse.ArgumentParser(prog='gate.py', description='Compare counts of instructions with the stored ones.')
    parser.add_argument('--write', action='store_true', help='store the counts')
    options = parser.parse_args(arguments)
    version = platform.python_version()
    kept: dict[str, dict[str, float]] = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    if version not in kept and not options.write:
        print(f'{KEPT.name} has no counts for Python {version}; add them with --write', file=sys.stderr)
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

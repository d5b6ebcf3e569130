"""``geventnode doctor``: is this machine, and this program, in a state to serve?

What is the case is gathered first, what it means is judged afterwards, by functions that look at nothing else; here the
two are put together and told. The exit status is 1 when something is wrong, and 0 when there is advice at most.
"""

from __future__ import annotations

import argparse
import json
import sys

from geventnode.cli.doctor.checks import CHECKS, diagnose
from geventnode.cli.doctor.facts import Facts, gather
from geventnode.cli.doctor.findings import Finding, Level

__all__ = ['CHECKS', 'Facts', 'Finding', 'Level', 'diagnose', 'gather', 'render', 'render_json', 'run']

#: How the facts are called where people read them.
NAMES = {
    'geventnode': 'geventnode',
    'python': 'Python',
    'libraries': 'libraries',
    'openssl': 'OpenSSL',
    'loop': 'event loop',
    'resolver': 'resolver',
    'descriptors': 'descriptors',
    'somaxconn': 'somaxconn',
    'target': 'program',
    'patched': 'patched',
    'blocking': 'blocking',
}


def render(facts: Facts, findings: list[Finding]) -> str:
    """Return the report for people."""
    shown = {name: facts.shown(name) for name in NAMES}
    width = max(map(len, NAMES.values()))
    lines = [f'{NAMES[name]:{width}}  {text}' for name, text in shown.items() if text]
    lines.append('')
    for finding in sorted(findings, key=lambda each: each.level.weight):
        lines.append(f'{finding.level.value:7}  {finding.message}')
        if finding.advice:
            lines.append(f'{"":7}  -> {finding.advice}')
    return '\n'.join(lines) + '\n'


def render_json(facts: Facts, findings: list[Finding]) -> str:
    """Return the report for programs: an object with ``healthy``, ``facts`` and ``findings``."""
    return (
        json.dumps(
            {
                'healthy': not any(each.level is Level.PROBLEM for each in findings),
                'facts': facts._asdict(),
                'findings': [{**each._asdict(), 'level': each.level.value} for each in findings],
            },
            indent=2,
        )
        + '\n'
    )


def run(options: argparse.Namespace) -> int:
    """Write the report that ``options`` ask for to standard output; return the exit status. May switch: runs the
    target's own code. Raises :class:`geventnode.cli.targets.Refused`."""
    facts = gather(options.target)
    findings = diagnose(facts)
    sys.stdout.write((render_json if options.json else render)(facts, findings))
    return int(any(each.level is Level.PROBLEM for each in findings))

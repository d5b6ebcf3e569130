"""``geventnode doctor``: check whether this machine and a program are ready to serve.

:mod:`geventnode.cli.doctor.facts` gathers facts, and :mod:`geventnode.cli.doctor.checks` judges them by pure functions.
This module prints the report. The exit status is 1 if there is a problem, 0 if there is only advice.
"""

from __future__ import annotations

import argparse
import json
import sys

from geventnode.cli.doctor.checks import CHECKS, diagnose
from geventnode.cli.doctor.facts import Facts, gather
from geventnode.cli.doctor.findings import Finding, Level

__all__ = ['CHECKS', 'Facts', 'Finding', 'Level', 'diagnose', 'gather', 'render', 'render_json', 'run']

#: The labels of the facts in the report.
LABELS = {
    'geventnode': 'geventnode',
    'python': 'Python',
    'libraries': 'libraries',
    'openssl': 'OpenSSL',
    'http2': 'HTTP/2',
    'loop': 'event loop',
    'resolver': 'resolver',
    'descriptors': 'descriptors',
    'somaxconn': 'somaxconn',
    'target': 'program',
    'patched': 'patched',
    'blocking': 'blocking',
    'eventlet': 'by eventlet',
    'proxies': 'proxies',
}


def render(facts: Facts, findings: list[Finding]) -> str:
    """Return the report as text."""
    shown = {name: facts.format(name) for name in LABELS}
    width = max(map(len, LABELS.values()))
    lines = [f'{LABELS[name]:{width}}  {text}' for name, text in shown.items() if text]
    lines.append('')
    for finding in sorted(findings, key=lambda each: each.level.rank):
        lines.append(f'{finding.level.value:7}  {finding.message}')
        if finding.advice:
            lines.append(f'{"":7}  -> {finding.advice}')
    return '\n'.join(lines) + '\n'


def render_json(facts: Facts, findings: list[Finding]) -> str:
    """Return the report as JSON: an object with ``healthy``, ``facts`` and ``findings``."""
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
    """Write the report to standard output, and return the exit status.

    Blocks while the target is imported. Raises :class:`geventnode.cli.targets.UsageError`.
    """
    facts = gather(options.target)
    findings = diagnose(facts)
    sys.stdout.write((render_json if options.json else render)(facts, findings))
    return int(any(each.level is Level.PROBLEM for each in findings))

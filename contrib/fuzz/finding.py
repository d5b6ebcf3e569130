"""Findings: broken rules, minimised, and written to files that can be replayed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from contrib.fuzz.sample import Sample

__all__ = ['Finding', 'keep', 'minimised']

#: The most attempts to shorten an input.
MAX_ATTEMPTS = 3000


class Finding(Exception):
    """A broken rule.

    :ivar rule: a short name of the rule.
    """

    def __init__(self, rule: str, detail: str) -> None:
        super().__init__(f'{rule}: {detail}')
        self.rule = rule


def minimised(sample: Sample, rule: str, check: Callable[[Sample], None]) -> Sample:
    """Return a smaller sample that still breaks ``rule``, by deleting parts.

    :param check: raises :exc:`Finding` for a sample that breaks a rule.
    """
    left = MAX_ATTEMPTS
    size = max(len(sample.data) // 2, 1)
    while size and left > 0:
        start = 0
        while start < len(sample.data) and left > 0:
            left -= 1
            shorter = sample.with_data(sample.data[:start] + sample.data[start + size :])
            try:
                check(shorter)
            except Finding as finding:
                if finding.rule == rule:
                    sample = shorter
                    continue
            start += size
        size //= 2
    return sample


def keep(sample: Sample, finding: Finding, folder: Path) -> Path:
    """Write ``sample`` to a file in ``folder`` and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(sample.data).hexdigest()[:12]
    path = folder / f'{sample.target}-{finding.rule.replace(" ", "-")}-{digest}.json'
    path.write_text(sample.dump() + '\n', 'utf-8')
    return path

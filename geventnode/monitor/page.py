"""Pages in one file, and the policy that lets a browser run what stands in them and nothing else."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

__all__ = ['Page']

_inline = re.compile(r'<(script|style)>(.*?)</\1>', re.DOTALL)


class Page:
    """A page whose scripts and styles stand within it, and which loads nothing from elsewhere.

    :param path: the file.
    """

    def __init__(self, path: Path) -> None:
        text = path.read_text('utf-8')
        #: What is sent.
        self.body = text.encode()
        #: The header fields that it is sent with.
        self.headers = {
            'Content-Type': 'text/html; charset=utf-8',
            'Content-Security-Policy': _policy(text),
            'Referrer-Policy': 'no-referrer',
            'X-Content-Type-Options': 'nosniff',
        }


def _policy(page: str) -> str:
    """Return a Content-Security-Policy that allows what stands in ``page`` itself, and nothing else."""
    allowed: dict[str, list[str]] = {'script': [], 'style': []}
    for kind, text in _inline.findall(page):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        allowed[kind].append(f"'sha256-{digest}'")
    return (
        f"default-src 'none'; script-src {' '.join(allowed['script'])}; style-src {' '.join(allowed['style'])}; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )

"""Load a page, with a policy that allows only its own scripts."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

__all__ = ['Page']

_inline = re.compile(r'<(script|style)>(.*?)</\1>', re.DOTALL)


class Page:
    """A page with inline scripts and styles that loads nothing from elsewhere.

    :param path: the HTML file.
    """

    def __init__(self, path: Path) -> None:
        text = path.read_text('utf-8')
        #: The content of the response.
        self.body = text.encode()
        #: The header fields of the response.
        self.headers = {
            'Content-Type': 'text/html; charset=utf-8',
            'Content-Security-Policy': _policy(text),
            'Referrer-Policy': 'no-referrer',
            'X-Content-Type-Options': 'nosniff',
        }


def _policy(page: str) -> str:
    """Return a Content-Security-Policy that allows only the inline parts of ``page``."""
    allowed: dict[str, list[str]] = {'script': [], 'style': []}
    for kind, text in _inline.findall(page):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        allowed[kind].append(f"'sha256-{digest}'")
    return (
        f"default-src 'none'; script-src {' '.join(allowed['script'])}; style-src {' '.join(allowed['style'])}; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )

"""The case files, each case with its expected verdict; README.md describes their sources."""

from __future__ import annotations

import base64
import gzip
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ['OUR_RULINGS', 'Case', 'load']

#: Verdicts that differ from those of the case files, with the reason.
OUR_RULINGS: dict[str, tuple[str, str]] = {
    'llhttp/response/sample:648': (
        'reject',
        """
        HTTP/0.9 has no status line (RFC 1945, section 6), so that the framing of such a response would be a guess. RFC
        9112, section 2.3, defines 1.x only.""",
    ),
    'gunicorn/valid/022': (
        'reject',
        """
        Its second request is HTTP/1.1 without Host, which a server must reject (RFC 9112, section 3.2).""",
    ),
    'llhttp/request/uri:168': (
        'reject',
        """
        RFC 9112, section 3.2, has no fragment in a request target, and servers disagree about its meaning.""",
    ),
    'gunicorn/valid/005': ('reject', 'As above.'),
    'llhttp/request/content-length:447': (
        'incomplete',
        """
        A setting of that parser makes it skip the content of a request. In RFC 9112, section 6.3, only responses can
        have a Content-Length without content.""",
    ),
}

#: Cases that settings of another program reject; they are within the default limits, and valid by the grammar.
_OTHER_SETTINGS = 'gunicorn/invalid/'


@dataclass(frozen=True)
class Case:
    """One case: bytes and the expected result of parsing."""

    id: str
    kind: str
    data: bytes
    #: ``'accept'``, ``'reject'``, or ``'incomplete'``: no error, but not all expected messages.
    verdict: str
    #: The allowed statuses of an error; empty for any.
    statuses: frozenset[int]
    tags: frozenset[str]
    eof: bool
    skip_body: bool
    expect: dict[str, Any]

    @property
    def has_rest(self) -> bool:
        """Whether the connection of the case changes to another protocol."""
        return 'rest_b64' in self.expect

    @property
    def asks_upgrade(self) -> bool:
        """Whether a 101 is the response to an upgrade request."""
        return any(message.get('upgrade') for message in self.expect['messages'] or ())


def load(name: str) -> list[Case]:
    """Return the strict cases of the file ``name``, such as ``'requests'``."""
    with gzip.open(Path(__file__).parent / f'{name}.jsonl.gz', 'rt', encoding='utf-8') as lines:
        cases = [json.loads(line) for line in lines]
    return [_case(each) for each in cases if each['mode'] == 'strict']


def _case(raw: dict[str, Any]) -> Case:
    data = base64.b64decode(raw['input_b64'])
    tags = frozenset(raw['tags'])
    verdict = _verdict(raw, tags, data)
    statuses: Any = ()
    if verdict == 'reject' and raw['id'] not in OUR_RULINGS:
        statuses = raw['expect'].get('status') or (raw.get('rfc') or {}).get('status') or ()
    if isinstance(statuses, int):
        statuses = (statuses,)
    return Case(
        raw['id'],
        raw['kind'],
        data,
        verdict,
        frozenset(statuses),
        tags,
        raw['eof'],
        bool(raw['flags'].get('skip_body')),
        raw['expect'],
    )


def _verdict(raw: dict[str, Any], tags: frozenset[str], data: bytes) -> str:
    if raw['id'] in OUR_RULINGS:
        return OUR_RULINGS[raw['id']][0]
    if 'rtsp-ice' in tags:
        return 'reject'
    if 'proxy-protocol' in tags:
        # Only some of them begin with the preamble of that protocol.
        return 'reject' if data.startswith((b'PROXY', b'\r\n\r\n\x00')) else 'accept'
    if tags & {'limits', 'policy'} and raw['id'].startswith(_OTHER_SETTINGS):
        return 'accept'
    if 'rfc' in raw:
        return str(raw['rfc']['prefer'])
    return 'reject' if raw['expect']['error'] else 'accept'

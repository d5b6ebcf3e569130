"""The case files, each case with the verdict that we hold it to; see README.md for where they come from."""

from __future__ import annotations

import base64
import gzip
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ['OUR_RULINGS', 'Case', 'load']

#: Verdicts that differ from what a case file says, with the reason.
OUR_RULINGS: dict[str, tuple[str, str]] = {
    'llhttp/response/sample:648': (
        'reject',
        """
        HTTP/0.9 has no status line (RFC 1945, section 6): a response of that version is nothing that anyone may send,
        and its framing would be a guess. RFC 9112, section 2.3, gives meaning to 1.x only.""",
    ),
    'gunicorn/valid/022': (
        'reject',
        """
        Its second request is HTTP/1.1 without Host, which RFC 9112, section 3.2, makes a server refuse.""",
    ),
    'llhttp/request/uri:168': (
        'reject',
        """
        RFC 9112, section 3.2, has no fragment in a request target, and servers disagree about what one means.""",
    ),
    'gunicorn/valid/005': ('reject', 'As above.'),
    'llhttp/request/content-length:447': (
        'incomplete',
        """
        A setting of that parser lets it skip the content of a request; RFC 9112, section 6.3, knows only responses
        whose Content-Length stands for nothing.""",
    ),
}

#: Refused by settings of the program that the case is from. All of it is within our limits, and fine by the grammar.
_OTHER_SETTINGS = 'gunicorn/invalid/'


@dataclass(frozen=True)
class Case:
    """One case: bytes, and what a parser must make of them."""

    id: str
    kind: str
    data: bytes
    #: ``'accept'``, ``'reject'``, or ``'incomplete'``: no error, but not all messages that are expected.
    verdict: str
    #: Statuses that an error may have; empty: any.
    statuses: frozenset[int]
    tags: frozenset[str]
    eof: bool
    skip_body: bool
    expect: dict[str, Any]

    @property
    def has_rest(self) -> bool:
        """Whether the case is about a connection that goes over to another protocol."""
        return 'rest_b64' in self.expect

    @property
    def asks_upgrade(self) -> bool:
        """Whether a 101 answers a request for it."""
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
        # Only some of them begin with the preamble of that protocol, which is not HTTP.
        return 'reject' if data.startswith((b'PROXY', b'\r\n\r\n\x00')) else 'accept'
    if tags & {'limits', 'policy'} and raw['id'].startswith(_OTHER_SETTINGS):
        return 'accept'
    if 'rfc' in raw:
        return str(raw['rfc']['prefer'])
    return 'reject' if raw['expect']['error'] else 'accept'

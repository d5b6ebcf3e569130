"""The Flask application of the examples, started by its ``Procfile.after``."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shlex

from tests.needed import need
from tests.servers import Client, get, post
from tests.system.running import ROOT, Served

need('flask')

EXAMPLE = ROOT / 'contrib' / 'examples' / 'flask_site'
READERS = 200


def commands() -> list[list[str]]:
    """Return the command lines before and after."""
    return [shlex.split((EXAMPLE / f'Procfile.{name}').read_text())[1:] for name in ('before', 'after')]


def test_only_the_command_line_differs() -> None:
    """Both start the same application, which depends on neither, and the README quotes the files."""
    before, after = commands()
    assert (before[0], after[:2], before[-1]) == ('gunicorn', ['geventnode', 'serve'], after[-1])
    assert 'geventnode' not in (EXAMPLE / 'app.py').read_text().partition('"""\nfrom')[2]
    text = (EXAMPLE / 'README.md').read_text()
    for sign, name in ('-', 'before'), ('+', 'after'):
        assert f'{sign}{(EXAMPLE / f"Procfile.{name}").read_text()}' in text


def test_readers_do_not_delay_other_requests() -> None:
    """More readers of a stream than gunicorn has threads do not delay other requests."""
    _, (_, command, *_, target) = commands()
    assert command == 'serve'
    with Served(target, cwd=EXAMPLE) as served, contextlib.ExitStack() as stack:

        def connect() -> Client:
            return stack.enter_context(contextlib.closing(Client(('127.0.0.1', served.port))))

        readers = [connect().send(get('/ticks')) for _ in range(READERS)]
        for reader in readers:
            reader.until(b'data: 0\n\n')
        first = connect().get('/')
        assert first.body == b'Hello! Visits: 1\n'
        cookie = first.values('Set-Cookie')[0].partition(';')[0]
        assert connect().get('/', f'Cookie: {cookie}').body == b'Hello! Visits: 2\n'
        body = bytes(5_000_000)
        answer = json.loads(connect().send(post(body, '/digest')).response().body)
        assert answer == {'size': len(body), 'sha256': hashlib.sha256(body).hexdigest()}
        for reader in readers:
            reader.abort()

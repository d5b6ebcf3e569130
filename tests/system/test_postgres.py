"""The example with a database: a real PostgreSQL behind psycopg and its pool, in the one process of the server.

The test holds a lock on the table whenever something shall be in work: no time passes that is not meant to.
"""

from __future__ import annotations

import contextlib
import re
import signal
from collections.abc import Iterator
from typing import Any

import gevent
import pytest

from tests.servers import Client, get, post
from tests.system.postgres import postgres
from tests.system.running import ROOT, Served

psycopg = pytest.importorskip('psycopg', reason='psycopg is not installed; it is in the extra "test"')
pytest.importorskip('flask', reason='Flask is not installed; it is in the extra "test"')

EXAMPLE = ROOT / 'contrib' / 'examples' / 'postgres.py'
POOL = 20
MANY = 200


@pytest.fixture(scope='module')
def url() -> Iterator[str]:
    """The URL of a database."""
    with postgres() as url:
        yield url


class Notes:
    """The server, and what is in its database."""

    def __init__(self, served: Served, connection: Any) -> None:
        self.served = served
        self._connection = connection
        self._clients = contextlib.ExitStack()

    def connect(self, *pieces: bytes) -> Client:
        """Return a connection on which ``pieces`` were sent."""
        client = Client(('127.0.0.1', self.served.port))
        self._clients.callback(client.close)
        return client.send(*pieces)

    def add(self, count: int) -> list[Client]:
        """Ask for so many notes, each on a connection of its own: they are numbered."""
        return [self.connect(post(str(number).encode(), '/notes')) for number in range(count)]

    def alive(self) -> bool:
        """Whether what needs no database is answered."""
        return self.connect().get('/alive').body == b'yes\n'

    def close(self) -> None:
        """Close the clients."""
        self._clients.close()

    # -- in the database ----------------------------------------------------------------------------------------------

    def fill(self, count: int) -> None:
        """Put notes of a thousand characters there."""
        self._connection.execute(
            "INSERT INTO notes (text) SELECT repeat('x', 1000) FROM generate_series(1, %s)", [count]
        )

    def lock(self) -> None:
        """Let every query wait."""
        self._connection.execute('BEGIN')
        self._connection.execute('LOCK TABLE notes IN ACCESS EXCLUSIVE MODE')

    def unlock(self) -> None:
        """Let them go on."""
        self._connection.execute('COMMIT')

    def count(self, condition: str) -> int:
        """Return how many connections of the server are in such a state."""
        # within a transaction it would be shown as it was at first
        self._connection.execute('SELECT pg_stat_clear_snapshot()')
        query = (
            "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' "
            f'AND pid <> pg_backend_pid() AND ({condition})'
        )
        return int(self._connection.execute(query).fetchone()[0])

    def wait_for(self, condition: str, count: int) -> None:
        """Ask the database until so many connections of the server are in such a state."""
        while self.count(condition) != count:
            # a guard against hangs could not interrupt what never switches
            gevent.idle()

    def texts(self) -> list[str]:
        """Return what is there, sorted."""
        return sorted(row[0] for row in self._connection.execute('SELECT text FROM notes'))


#: States of a connection: in a query that the lock holds up, and in any transaction at all.
WAITING = "wait_event_type = 'Lock'"
BUSY = "state <> 'idle'"


@pytest.fixture
def notes(url: str) -> Iterator[Notes]:
    """The example, without any notes."""
    with Served(EXAMPLE, env={'DATABASE_URL': url}) as served, psycopg.connect(url, autocommit=True) as connection:
        connection.execute('TRUNCATE notes')
        with contextlib.closing(Notes(served, connection)) as notes:
            yield notes


def numbers(count: int) -> list[str]:
    """Return the texts of so many notes, sorted."""
    return sorted(str(number) for number in range(count))


def test_many_requests_share_few_connections(notes: Notes) -> None:
    """All that the pool has are waiting in the database, and all other requests for those; nobody else has to."""
    notes.lock()
    clients = notes.add(MANY)
    notes.wait_for(WAITING, POOL)
    assert notes.alive()
    assert notes.count('true') == POOL
    notes.unlock()
    assert [client.response().status for client in clients] == [201] * MANY
    assert notes.texts() == numbers(MANY)


def test_a_client_that_leaves(notes: Notes) -> None:
    """In the midst of a transaction, which ends as if nothing had happened."""
    notes.lock()
    clients = notes.add(2 * POOL)
    notes.wait_for(WAITING, POOL)
    # connections are accepted in order: so all of them were
    assert notes.alive()
    for client in clients:
        client.abort()
    assert notes.alive()
    notes.unlock()
    # the pool has all of its connections again, and they come behind those who waited before
    assert [client.response().status for client in notes.add(MANY)] == [201] * MANY
    notes.wait_for(BUSY, 0)
    assert notes.texts() == sorted(numbers(2 * POOL) + numbers(MANY))


def test_a_client_that_leaves_cancels_its_query(notes: Notes) -> None:
    """The database works for nobody any more; those who waited for a connection give theirs back; and the pool is
    whole."""
    notes.lock()
    clients = [notes.connect(get('/notes')) for _ in range(2 * POOL)]
    notes.wait_for(WAITING, POOL)
    assert notes.alive()
    for client in clients:
        client.abort()
    # while the lock is still there
    notes.wait_for(WAITING, 0)
    notes.unlock()
    notes.wait_for(BUSY, 0)
    assert [client.response().status for client in notes.add(MANY)] == [201] * MANY
    assert notes.texts() == numbers(MANY)


def test_a_client_that_leaves_a_stream_from_the_database(notes: Notes) -> None:
    """The cursor is closed, the transaction rolled back, and the connection goes back to the pool: more clients leave
    than there are connections."""
    notes.fill(20_000)
    for _ in range(2):
        clients = [notes.connect(get('/notes')) for _ in range(POOL)]
        for client in clients:
            client.until(b'xxx\n')
        assert notes.count(BUSY) == POOL
        for client in clients:
            client.abort()
    assert notes.connect(post(b'last', '/notes')).response().status == 201
    notes.wait_for(BUSY, 0)
    whole = notes.connect(get('/notes')).response().body.splitlines()
    assert (len(whole), whole[-1]) == (20_001, b'last')


def test_draining(notes: Notes) -> None:
    """Every request that was accepted is answered, those that wait for a connection included, and is in the database
    once."""
    notes.lock()
    clients = notes.add(2 * POOL)
    notes.wait_for(WAITING, POOL)
    # connections are accepted in order: so all of them were
    assert notes.alive()
    notes.served.signal(signal.SIGTERM)
    assert re.fullmatch(r'Stopping: \d+ open connection\(s\)', notes.served.next_line())
    notes.unlock()
    answers = [client.response() for client in clients]
    assert [(answer.status, answer.closes) for answer in answers] == [(201, True)] * len(clients)
    _, errors = notes.served.finish()
    assert (notes.served.process.returncode, errors) == (0, '')
    assert notes.texts() == numbers(2 * POOL)

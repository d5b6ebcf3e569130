"""The example with a database: a real PostgreSQL, psycopg and its pool, in the one process of the server.

The test holds a lock on the table while queries have to be active, so no test depends on time.
"""

from __future__ import annotations

import contextlib
import re
import signal
from collections.abc import Iterator
from typing import Any

import gevent
import pytest

from tests.needed import need
from tests.servers import Client, get, post
from tests.system.postgres import postgres
from tests.system.running import ROOT, Served

need('flask', 'psycopg')

EXAMPLE = ROOT / 'contrib' / 'examples' / 'postgres.py'
POOL = 20
MANY = 200


@pytest.fixture(scope='module')
def url() -> Iterator[str]:
    """The URL of a database."""
    with postgres() as url:
        yield url


class Notes:
    """The server, and its database."""

    def __init__(self, served: Served, connection: Any) -> None:
        self.served = served
        self._connection = connection
        self._clients = contextlib.ExitStack()

    def connect(self, *pieces: bytes) -> Client:
        """Open a connection, and send ``pieces``."""
        client = Client(('127.0.0.1', self.served.port))
        self._clients.callback(client.close)
        return client.send(*pieces)

    def add(self, count: int) -> list[Client]:
        """Send ``count`` numbered notes, each on its own connection."""
        return [self.connect(post(str(number).encode(), '/notes')) for number in range(count)]

    def alive(self) -> bool:
        """Return whether a request without the database has a response."""
        return self.connect().get('/alive').body == b'yes\n'

    def close(self) -> None:
        """Close the clients."""
        self._clients.close()

    # -- in the database ----------------------------------------------------------------------------------------------

    def fill(self, count: int) -> None:
        """Insert ``count`` notes of a thousand characters."""
        self._connection.execute(
            "INSERT INTO notes (text) SELECT repeat('x', 1000) FROM generate_series(1, %s)", [count]
        )

    def lock(self) -> None:
        """Lock the table, so that every query waits."""
        self._connection.execute('BEGIN')
        self._connection.execute('LOCK TABLE notes IN ACCESS EXCLUSIVE MODE')

    def unlock(self) -> None:
        """Unlock the table."""
        self._connection.execute('COMMIT')

    def count(self, condition: str) -> int:
        """Return the number of the server's connections that match ``condition``."""
        # within a transaction, the first snapshot would be repeated
        self._connection.execute('SELECT pg_stat_clear_snapshot()')
        query = (
            "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' "
            f'AND pid <> pg_backend_pid() AND ({condition})'
        )
        return int(self._connection.execute(query).fetchone()[0])

    def wait_for(self, condition: str, count: int) -> None:
        """Query the database until ``count`` of the server's connections match ``condition``."""
        while self.count(condition) != count:
            # the guard against hangs needs a switch
            gevent.idle()

    def texts(self) -> list[str]:
        """Return the sorted notes."""
        return sorted(row[0] for row in self._connection.execute('SELECT text FROM notes'))


#: States of a connection: in a query that waits for the lock, and in any transaction.
WAITING = "wait_event_type = 'Lock'"
BUSY = "state <> 'idle'"


@pytest.fixture
def notes(url: str) -> Iterator[Notes]:
    """The example, without any notes."""
    import psycopg

    with (
        Served(EXAMPLE, program='geventnode serve with Flask', env={'DATABASE_URL': url}) as served,
        psycopg.connect(url, autocommit=True) as connection,
    ):
        connection.execute('TRUNCATE notes')
        with contextlib.closing(Notes(served, connection)) as notes:
            yield notes


def numbers(count: int) -> list[str]:
    """Return the sorted texts of ``count`` notes."""
    return sorted(str(number) for number in range(count))


def test_many_requests_share_few_connections(notes: Notes) -> None:
    """Requests wait for a connection of the pool, which waits in the database; the server is responsive."""
    notes.lock()
    clients = notes.add(MANY)
    notes.wait_for(WAITING, POOL)
    assert notes.alive()
    assert notes.count('true') == POOL
    notes.unlock()
    assert [client.response().status for client in clients] == [201] * MANY
    assert notes.texts() == numbers(MANY)


def test_disconnect_completes_the_transaction(notes: Notes) -> None:
    """The transaction of a disconnected client is completed."""
    notes.lock()
    clients = notes.add(2 * POOL)
    notes.wait_for(WAITING, POOL)
    # connections are accepted in order, so all of them have been
    assert notes.alive()
    for client in clients:
        client.abort()
    assert notes.alive()
    notes.unlock()
    # the pool has all its connections again, after the requests that waited before
    assert [client.response().status for client in notes.add(MANY)] == [201] * MANY
    notes.wait_for(BUSY, 0)
    assert notes.texts() == sorted(numbers(2 * POOL) + numbers(MANY))


def test_disconnect_cancels_the_query(notes: Notes) -> None:
    """The queries end, requests without a connection end, and the pool is complete."""
    notes.lock()
    clients = [notes.connect(get('/notes')) for _ in range(2 * POOL)]
    notes.wait_for(WAITING, POOL)
    assert notes.alive()
    for client in clients:
        client.abort()
    # while the table is still locked
    notes.wait_for(WAITING, 0)
    notes.unlock()
    notes.wait_for(BUSY, 0)
    assert [client.response().status for client in notes.add(MANY)] == [201] * MANY
    assert notes.texts() == numbers(MANY)


def test_disconnect_closes_a_stream_from_the_database(notes: Notes) -> None:
    """The cursor is closed, the transaction rolled back, and the connection returned to the pool.

    More clients disconnect than the pool has connections.
    """
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


def test_drain_completes_every_request(notes: Notes) -> None:
    """Every accepted request has a response, even without a connection yet, and is in the database once."""
    notes.lock()
    clients = notes.add(2 * POOL)
    notes.wait_for(WAITING, POOL)
    # connections are accepted in order, so all of them have been
    assert notes.alive()
    notes.served.signal(signal.SIGTERM)
    assert re.fullmatch(r'Stopping: \d+ open connection\(s\)', notes.served.next_line())
    notes.unlock()
    answers = [client.response() for client in clients]
    assert [(answer.status, answer.closes) for answer in answers] == [(201, True)] * len(clients)
    _, errors = notes.served.finish()
    assert (notes.served.process.returncode, errors) == (0, '')
    assert notes.texts() == numbers(2 * POOL)

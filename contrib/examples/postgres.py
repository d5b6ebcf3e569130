"""Notes in PostgreSQL: a Flask application on psycopg and its pool, written as it would be for threads.

Hundreds of requests share twenty connections. Each request borrows one for its transaction, and waits for it as a
thread would, while the others continue. However a request ends, the end of the block returns the connection, and an
uncommitted transaction is rolled back.

A note is stored even if its client does not wait for the response. A query that only reads is cancelled in the database
when its client disconnects; the driver ends it itself then, and the connection stays usable.

    DATABASE_URL=postgresql:///notes geventnode serve contrib/examples/postgres.py
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

from flask import Flask, Response, request
from psycopg import Connection
from psycopg.errors import QueryCanceled
from psycopg_pool import ConnectionPool

__all__ = ['app', 'cancelled_with', 'pool']

SCHEMA = 'CREATE TABLE IF NOT EXISTS notes (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, text text NOT NULL)'

#: A request that gets no connection within a minute fails with PoolTimeout.
pool = ConnectionPool(os.environ['DATABASE_URL'], min_size=2, max_size=20, timeout=60, open=True)
atexit.register(pool.close)
with pool.connection() as first:
    first.execute(SCHEMA)

app = Flask(__name__)


@contextmanager
def cancelled_with(client_request: Any) -> Iterator[Connection]:
    """Yield a connection in a transaction; its query is cancelled when the client disconnects.

    The query raises QueryCanceled then. Blocks until the pool has a connection.

    :param client_request: the request of the server, ``environ['geventnode.request']``.
    """
    cancelling = Lock()

    def cancel() -> None:
        with cancelling:
            connection.cancel_safe()

    with pool.connection() as connection:
        client_request.once('aborted', cancel)
        try:
            if client_request.aborted:
                raise QueryCanceled('the client disconnected while its request waited for a connection')
            yield connection
        finally:
            client_request.remove_listener('aborted', cancel)
            # cancel() must not affect the next user of the connection
            with cancelling:
                pass


@app.post('/notes')
def add() -> tuple[dict[str, int], int]:
    """Store the body as a note."""
    with pool.connection() as connection:
        [row] = connection.execute(
            'INSERT INTO notes (text) VALUES (%s) RETURNING id', [request.get_data(as_text=True)]
        )
        return {'id': row[0]}, 201


@app.get('/notes')
def export() -> Response:
    """Stream any number of notes, one to a line; the client's pace limits that of the database's cursor."""
    client_request = request.environ['geventnode.request']

    def lines() -> Iterator[str]:
        try:
            with cancelled_with(client_request) as connection, connection.cursor('export') as cursor:
                for row in cursor.execute('SELECT text FROM notes ORDER BY id'):
                    yield f'{row[0]}\n'
        except QueryCanceled:
            # a client that has disconnected needs no error
            if not client_request.aborted:
                raise

    return Response(lines(), mimetype='text/plain')


@app.get('/alive')
def alive() -> str:
    """Respond without the database."""
    return 'yes\n'

"""Notes in PostgreSQL: a Flask application on psycopg and its pool, written as it would be for threads.

Hundreds of requests share twenty connections: each borrows one for as long as its transaction takes, and waits for it
like a thread would, while the others go on. Whatever ends a request, the end of a block gives its connection back, and
what was not committed is rolled back.

A note is kept also when its sender does not wait for the answer. What only reads is for nobody when its client has
gone: its query is cancelled in the database, so that the driver ends it itself and the connection remains good.

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
def cancelled_with(asked: Any) -> Iterator[Connection]:
    """A connection of the pool in a transaction, whose query is cancelled when the client of ``asked``, the server's
    request, goes: QueryCanceled is raised where it is waited for. May switch."""
    cancelling = Lock()

    def cancel() -> None:
        with cancelling:
            connection.cancel_safe()

    with pool.connection() as connection:
        asked.once('aborted', cancel)
        try:
            if asked.aborted:
                raise QueryCanceled('the client went away while a connection was waited for')
            yield connection
        finally:
            asked.remove_listener('aborted', cancel)
            # nobody else may have the connection before
            with cancelling:
                pass


@app.post('/notes')
def add() -> tuple[dict[str, int], int]:
    """Keep the body as a note."""
    with pool.connection() as connection:
        [row] = connection.execute(
            'INSERT INTO notes (text) VALUES (%s) RETURNING id', [request.get_data(as_text=True)]
        )
        return {'id': row[0]}, 201


@app.get('/notes')
def export() -> Response:
    """All notes, one to a line, however many there are: the client's pace is that of the database's cursor."""
    asked = request.environ['geventnode.request']

    def lines() -> Iterator[str]:
        try:
            with cancelled_with(asked) as connection, connection.cursor('export') as cursor:
                for row in cursor.execute('SELECT text FROM notes ORDER BY id'):
                    yield f'{row[0]}\n'
        except QueryCanceled:
            # nobody is left to be told
            if not asked.aborted:
                raise

    return Response(lines(), mimetype='text/plain')


@app.get('/alive')
def alive() -> str:
    """What needs no database."""
    return 'yes\n'

"""Certificates for tests, made anew for each run, and a TLS peer that shares no code with the package.

Each certificate is a file with its key and its chain. The peer is ``ssl.SSLObject`` over a plain cooperative socket,
and works as a blocking TLS socket. A socket of ``ssl`` itself can neither send ``close_notify`` without waiting for the
response, nor run both with and without patching.
"""

from __future__ import annotations

import atexit
import contextlib
import datetime
import shutil
import ssl
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import trustme

__all__ = ['Certificates', 'TLSEnd', 'note_names', 'tls_certificates']

PAST = datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)


class Certificates(NamedTuple):
    """Paths of PEM files."""

    #: The authority that has signed the others.
    ca: str
    #: For localhost, 127.0.0.1 and ::1.
    server: str
    #: For a.example and *.b.example.
    other: str
    #: For localhost, and no longer valid.
    expired: str
    #: An authority's own.
    self_signed: str
    #: For the user called client.
    client: str

    def server_context(self, which: str = 'server') -> ssl.SSLContext:
        """Return a plain context for a server with one of these certificates."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(getattr(self, which))
        return context

    def client_context(self) -> ssl.SSLContext:
        """Return a plain context for a client that trusts the authority."""
        return ssl.create_default_context(cafile=self.ca)


_made: list[Certificates] = []


def tls_certificates() -> Certificates:
    """Return the certificates of this run; the first call makes them."""
    if not _made:
        directory = Path(tempfile.mkdtemp(prefix='geventnode-tests-'))
        atexit.register(shutil.rmtree, directory, ignore_errors=True)
        authority, stranger = trustme.CA(), trustme.CA()
        authority.cert_pem.write_to_path(str(directory / 'ca.pem'))

        def write(name: str, *blobs: Any) -> str:
            path = directory / f'{name}.pem'
            path.write_bytes(b''.join(blob.bytes() for blob in blobs))
            return str(path)

        def issue(name: str, *identities: str, **options: Any) -> str:
            return write(name, authority.issue_cert(*identities, **options).private_key_and_cert_chain_pem)

        _made.append(
            Certificates(
                str(directory / 'ca.pem'),
                issue('server', 'localhost', '127.0.0.1', '::1'),
                issue('other', 'a.example', '*.b.example'),
                issue(
                    'expired', 'localhost', '127.0.0.1', not_before=PAST, not_after=PAST + datetime.timedelta(days=1)
                ),
                write('self_signed', stranger.private_key_pem, stranger.cert_pem),
                issue('client', 'client@example.org', common_name='client'),
            )
        )
    return _made[0]


def note_names(context: ssl.SSLContext, names: list[str | None]) -> None:
    """Add the names that clients request to ``names``; gevent's contexts would do so for sockets only."""
    plain = next(kind for kind in type(context).__mro__ if kind.__module__ == '_ssl')
    vars(plain)['sni_callback'].__set__(context, lambda connection, name, _: names.append(name))


class TLSEnd:
    """A blocking TLS socket over ``raw``, a connected cooperative one."""

    def __init__(
        self,
        raw: Any,
        context: ssl.SSLContext,
        *,
        server_side: bool = False,
        servername: str | None = None,
        session: Any = None,
    ) -> None:
        self.raw = raw
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.object = context.wrap_bio(self._incoming, self._outgoing, server_side, servername, session)

    def _do(self, function: Any, *args: Any) -> Any:
        """Call ``function`` until it needs no further input."""
        while True:
            try:
                return function(*args)
            except ssl.SSLWantReadError:
                self._flush()
                data = self.raw.recv(65536)
                if data:
                    self._incoming.write(data)
                else:
                    self._incoming.write_eof()
            finally:
                self._flush()

    def _flush(self) -> None:
        if self._outgoing.pending:
            self.raw.sendall(self._outgoing.read())

    def handshake(self) -> TLSEnd:
        """Complete the handshake."""
        self._do(self.object.do_handshake)
        return self

    def sendall(self, data: bytes) -> None:
        """Send all of ``data``."""
        view = memoryview(data)
        while view:
            view = view[self._do(self.object.write, view[:16384]) :]

    def recv(self, size: int) -> bytes:
        """Return the next data, empty after close_notify; without it raise ``ssl.SSLEOFError``."""
        try:
            data: bytes = self._do(self.object.read, size)
        except ssl.SSLZeroReturnError:
            return b''
        return data

    def shutdown(self, how: int) -> None:
        """Send ``close_notify`` and a FIN."""
        with contextlib.suppress(ssl.SSLError):
            self.object.unwrap()
        self._flush()
        self.raw.shutdown(how)

    def close(self) -> None:
        """Close without ``close_notify``."""
        self.raw.close()

    def setsockopt(self, *args: Any) -> None:
        """Set it as on a socket."""
        self.raw.setsockopt(*args)

    def settimeout(self, seconds: float | None) -> None:
        """Set it as on a socket."""
        self.raw.settimeout(seconds)

    def fileno(self) -> int:
        """Return the descriptor."""
        number: int = self.raw.fileno()
        return number

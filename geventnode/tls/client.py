"""The client's end: whom to connect to, what to ask for, and what to find there."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

from geventnode.errors import InvalidInput
from geventnode.net.address import check_connect
from geventnode.net.forks import register_connection
from geventnode.net.hostnames import ascii_name, without_root
from geventnode.net.socket import Socket
from geventnode.tls.contexts import CLIENT_OPTIONS, ContextSettings, checking_context, client_context, client_settings
from geventnode.tls.identity import is_address
from geventnode.tls.socket import TLSSocket
from geventnode.tls.verification import verification_error

__all__ = ['TLSSettings', 'connect', 'parse_tls_options']


class TLSSettings(NamedTuple):
    """Who the other side shall be."""

    settings: ContextSettings
    #: The name to ask for and to find; ``''``: ask for none, find the host's.
    servername: str | None
    #: The name that the certificate must be valid for, if that is not ``servername``. False: any name is accepted.
    checked_name: str | Literal[False] | None = None
    #: The hash of the certificate, as of :func:`matches_fingerprint`. It replaces the check of the name.
    fingerprint: str = ''

    def digest(self, host: str) -> str:
        """Return what tells connections to ``host`` under these terms from others; ``''`` for the usual terms."""
        name = '' if self.servername in (None, host) else f'{self.servername!r}'
        if self.checked_name is not None or self.fingerprint:
            name += f'{self.checked_name!r}{self.fingerprint}'
        return name + ('' if self.settings == ContextSettings() else self.settings.digest())

    def make_socket(self, host: str, session: Any = None, **options: Any) -> TLSSocket:
        """Return a socket for a connection to ``host``, not connected yet. Raises ``InvalidInput`` for
        certificates that cannot be loaded."""
        host = ascii_name(host)
        name = without_root(host if self.servername is None else self.servername)
        checks = self.settings.reject_unauthorized and self.settings.context is None
        checked_host = None if name or not checks else host
        if self.fingerprint or self.checked_name is not None:
            context = client_context(self.settings, check_hostname=False)
            # the fingerprint replaces the check of the name; without verification there is no name to check
            if self.fingerprint or context.verify_mode is ssl.CERT_NONE:
                checked_host = None
            else:
                checked_host = self.checked_name or None
        else:
            context = client_context(self.settings, check_hostname=bool(name))
        if not name and context.check_hostname:
            raise InvalidInput(
                "servername='' asks for no name, and the context checks one: set its check_hostname to "
                'false, or pass a servername'
            )
        if not self.settings.reject_unauthorized and self.settings.context is None:
            wanted = None if self.checked_name is False else self.checked_name or name or host
            options['judge'] = partial(_judge, self.settings, wanted)
        options.update(checked_host=checked_host, fingerprint=self.fingerprint, session=session)
        if not name:
            return TLSSocket(context, **options)
        if is_address(name):
            # it is checked, and not sent (RFC 6066, section 3); a zone is our own affair
            name = name.partition('%')[0]
        return TLSSocket(context, servername=name, **options)

    def wrap(self, socket: Socket, host: str, received: bytes = b'', **options: Any) -> TLSSocket:
        """Return a socket that goes on with the connection of ``socket`` in TLS, as after CONNECT; ``socket`` is used
        up. Raises as :meth:`make_socket` and ``Socket._detach`` do.

        :param received: what was taken from ``socket`` already.
        """
        # otherwise the resolver has done so
        _check_name(ascii_name(host))
        made = self.make_socket(host, at_once=False, **options)
        made._no_delay = socket._no_delay
        raw, address, rest = socket._detach()
        register_connection(made, made._hub)
        made._attach(raw, address)
        made._start_handshake(received + rest)
        return made


def _judge(settings: ContextSettings, name: str | None, chain: list[bytes]) -> str | None:
    """Return the fault of ``chain``, the certificates of an unverified server that should be ``name``."""
    if name is not None and is_address(name):
        name = name.partition('%')[0]
    return verification_error(chain, checking_context(settings, check_hostname=name is not None), name)


def _check_name(name: str) -> None:
    """Refuse a name that ``ssl`` would refuse in the middle of connecting. Raises ``InvalidInput``."""
    if is_address(name):
        return
    try:
        name.encode('idna')
    except UnicodeError as error:
        raise InvalidInput(f'this is no host name that TLS can ask for: {name!r} ({error})') from error


def parse_tls_options(options: dict[str, Any]) -> TLSSettings:
    """Return what the options of TLS among ``options`` ask for. Raises ``InvalidInput``, ``TypeError``,
    ``UnknownOption``."""
    servername = options.get('servername')
    if servername is not None:
        if not isinstance(servername, str):
            raise TypeError(f'servername must be str, not {type(servername).__name__}')
        if servername.startswith('.') or not servername.isascii() or '\0' in servername:
            raise InvalidInput(f'servername is no host name: {servername!r}')
        _check_name(servername)
    return TLSSettings(client_settings(options), servername)


def connect(
    port: Any = None,
    host: str | None = None,
    callback: Callable[..., object] | None = None,
    *,
    socket: Socket | None = None,
    **options: Any,
) -> TLSSocket:
    """Return a :class:`TLSSocket` that connects to ``port`` on ``host`` ('localhost'), or to the Unix socket at a path.
    Never switches: reads, writes and ``wait_connected`` wait, ``'secureConnect'`` or ``'error'`` follows.

    :param callback: a one-time ``'secureConnect'`` listener.
    :param socket: a connected socket to go on with in TLS, as after CONNECT, in place of a port; it is used up.
    :param servername: the name to ask for (SNI) and to find in the certificate; the host, unless given; ``''``: ask for
        none, and look for the host's.
    :param ca: authorities to trust in place of the system's: paths or PEM text, one or several.
    :param certfile: our own certificate, with ``keyfile`` and ``password``, for servers that ask for one.
    :param reject_unauthorized: whether a server whose certificate is not valid for the host is refused. True.
    :param ciphers: OpenSSL's list of cipher suites for TLS 1.2.
    :param minimum_version: ``'TLSv1.2'`` or ``'TLSv1.3'``. TLS 1.2.
    :param alpn_protocols: names of protocols, the preferred first (RFC 7301). ``['http/1.1']``.
    :param context: an ``ssl.SSLContext`` in place of all these but ``servername``.
    :param session: a session of an earlier connection to resume.

    Other options are those of :func:`geventnode.net.connect`. Raises ``InvalidInput``, ``TypeError``,
    ``UnknownOption``.
    """
    peer = parse_tls_options({name: options.pop(name) for name in tuple(options) if name in CLIENT_OPTIONS})
    where = {name: options.pop(name) for name in ('local_address', 'family') if name in options}
    if socket is None:
        check_connect(port, host)
        made = peer.make_socket(host or 'localhost', **options)
    else:
        made = peer.wrap(socket, host or 'localhost', **options)
    if callback is not None:
        made.once('secureConnect', callback)
    if socket is None:
        made.connect(port, host, **where)
    return made

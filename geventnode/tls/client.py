"""The client's end: connect with TLS, with the settings for the peer's name and certificate."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypedDict

from geventnode.errors import InvalidInput
from geventnode.net.address import check_connect
from geventnode.net.forks import register_connection
from geventnode.net.hostnames import ascii_name, without_root
from geventnode.net.socket import Socket
from geventnode.tls.contexts import CLIENT_OPTIONS, ContextSettings, checking_context, client_context, client_settings
from geventnode.tls.identity import is_address, verification_error
from geventnode.tls.socket import TLSSocket

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ['ConnectOptions', 'TLSOptions', 'TLSSettings', 'connect', 'parse_tls_options']


class TLSSettings(NamedTuple):
    """The settings of connections: those of the context, and the identity that the server must have."""

    settings: ContextSettings
    #: The name to request and to find in the certificate; ``''``: request none, and find the host's. None: the host's.
    servername: str | None
    #: The name that the certificate must be valid for, if that is not ``servername``. False: any name is accepted.
    checked_name: str | Literal[False] | None = None
    #: The hash of the certificate, as of ``matches_fingerprint``; it replaces the check of the name.
    fingerprint: str = ''

    def digest(self, host: str) -> str:
        """Return a string that identifies these settings for ``host``.

        It is ``''`` for the default settings.
        """
        name = '' if self.servername in (None, host) else f'{self.servername!r}'
        if self.checked_name is not None or self.fingerprint:
            name += f'{self.checked_name!r}{self.fingerprint}'
        return name + ('' if self.settings == ContextSettings() else self.settings.digest())

    def make_socket(self, host: str, session: Any = None, **options: Any) -> TLSSocket:
        """Return an unconnected socket for a connection to ``host``.

        Raises ``InvalidInput`` for certificates that cannot be loaded.
        """
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
                "servername='' requests no name, but the context checks one: set its check_hostname to "
                'false, or pass a servername'
            )
        if not self.settings.reject_unauthorized and self.settings.context is None:
            wanted = None if self.checked_name is False else self.checked_name or name or host
            options['check_chain'] = partial(_chain_fault, self.settings, wanted)
        options.update(checked_host=checked_host, fingerprint=self.fingerprint, session=session)
        if not name:
            return TLSSocket(context, **options)
        if is_address(name):
            # it is checked, and not sent (RFC 6066, section 3); the zone is of local significance only
            name = name.partition('%')[0]
        return TLSSocket(context, servername=name, **options)

    def wrap(self, socket: Socket, host: str, received: bytes = b'', **options: Any) -> TLSSocket:
        """Continue the connection of ``socket`` in TLS.

        Return the new socket, for example after CONNECT.

        ``socket`` is closed without its connection.

        :param received: bytes that were read from ``socket`` already.

        Raises as :meth:`make_socket` and ``Socket._detach`` do.
        """
        # for a host that is to be resolved, the resolver does this
        _check_name(ascii_name(host))
        made = self.make_socket(host, handshake_on_connect=False, **options)
        made._no_delay = socket._no_delay
        raw, address, rest = socket._detach()
        register_connection(made, made._hub)
        made._attach(raw, address)
        made._start_handshake(received + rest)
        return made


def _chain_fault(settings: ContextSettings, name: str | None, chain: list[bytes]) -> str | None:
    """Return the fault of a server's certificates.

    :param name: the name that they must be valid for; None: any.
    :param chain: the certificates, unverified.
    """
    if name is not None and is_address(name):
        name = name.partition('%')[0]
    return verification_error(chain, checking_context(settings, check_hostname=name is not None), name)


def _check_name(name: str) -> None:
    """Raise ``InvalidInput`` for a name that ``ssl`` would refuse.

    It would do so later, in the middle of connecting.
    """
    if is_address(name):
        return
    try:
        name.encode('idna')
    except UnicodeError as error:
        raise InvalidInput(f'TLS cannot request this host name: {name!r} ({error})') from error


def parse_tls_options(options: dict[str, Any]) -> TLSSettings:
    """Return the settings for the TLS options of a client.

    Raises ``InvalidInput``, ``TypeError`` and ``UnknownOption``.
    """
    servername = options.get('servername')
    if servername is not None:
        if not isinstance(servername, str):
            raise TypeError(f'servername must be str, not {type(servername).__name__}')
        if servername.startswith('.') or not servername.isascii() or '\0' in servername:
            raise InvalidInput(f'servername must be a host name, not {servername!r}')
        _check_name(servername)
    return TLSSettings(client_settings(options), servername)


class ConnectOptions(TypedDict, total=False):
    """The options of :func:`connect`."""

    allow_half_open: bool
    alpn_protocols: Any
    ca: Any
    certfile: Any
    ciphers: str | None
    context: ssl.SSLContext | None
    family: int
    high_water_mark: int
    keyfile: Any
    local_address: str | None
    minimum_version: Any
    password: Any
    reject_unauthorized: bool
    servername: str | None
    session: Any


def connect(
    port: Any = None,
    host: str | None = None,
    callback: Callable[..., object] | None = None,
    *,
    socket: Socket | None = None,
    **options: Unpack[ConnectOptions],
) -> TLSSocket:
    """Return a new :class:`TLSSocket` that connects; ``'secureConnect'`` or ``'error'`` follows.

    Reads, writes and ``wait_connected`` wait for the handshake.

    :param port: a port, or the path of a Unix socket.
    :param host: a host name or an IP address. ``'localhost'``.
    :param callback: a one-time listener for ``'secureConnect'``.
    :param socket: a connected socket to continue in TLS, as after CONNECT, instead of a port; it is closed without its
        connection.
    :param servername: the name to request (SNI) and to find in the certificate; ``''``: request none, and find the
        host's. The host, unless given.
    :param ca: authorities to trust instead of those of the system: paths or PEM text, one or several.
    :param certfile: the path of the client's own certificate (PEM), for servers that request one.
    :param keyfile: the path of its key, if that is another file.
    :param password: the password of the key, if it is encrypted.
    :param reject_unauthorized: whether a server without a valid certificate for the host is refused. True.
    :param ciphers: OpenSSL's list of cipher suites for TLS 1.2.
    :param minimum_version: ``'TLSv1.2'`` or ``'TLSv1.3'``. TLS 1.2.
    :param alpn_protocols: names of protocols, the preferred first (RFC 7301). ``['http/1.1']``.
    :param context: an ``ssl.SSLContext`` instead of all these but ``servername``.
    :param session: the :attr:`TLSSocket.session` of an earlier connection to resume.
    :param local_address: as of :func:`geventnode.net.connect`, and so are the other options.

    Raises ``InvalidInput``, ``TypeError`` and ``UnknownOption``.
    """
    rest: dict[str, Any] = {**options}
    settings = parse_tls_options({name: rest.pop(name) for name in tuple(rest) if name in CLIENT_OPTIONS})
    where = {name: rest.pop(name) for name in ('local_address', 'family') if name in rest}
    if socket is None:
        check_connect(port, host)
        made = settings.make_socket(host or 'localhost', **rest)
    else:
        made = settings.wrap(socket, host or 'localhost', **rest)
    if callback is not None:
        made.once('secureConnect', callback)
    if socket is None:
        made.connect(port, host, **where)
    return made


class TLSOptions(TypedDict, total=False):
    """The options of :func:`geventnode.tls.connect` that requests and agents have, too."""

    alpn_protocols: Any
    ca: Any
    certfile: Any
    ciphers: str | None
    context: ssl.SSLContext | None
    keyfile: Any
    minimum_version: str | None
    password: Any
    reject_unauthorized: bool
    servername: str | None

"""The command line: ``geventnode serve``, a server for one target, and the way to ``geventnode get``.

The standard library is patched before anything else is loaded, because modules that were imported earlier would keep
what blocks: so of the standard library no more than reading the command line takes is imported at the top of this file,
and of this package only what keeps to the same rule.

What the user got wrong (an address, a name, a port in use) is one line on standard error and exit status 2. What the
target's own code raises while it is imported is shown as its own traceback, exit status 1. Standard output gets what
the server says of itself and the access log; standard error gets everything that went wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import re
import sys
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from geventnode.cli.arguments import DEFAULT_HOST, DEFAULT_PORT, parse
from geventnode.cli.targets import Refused, check_callable, factory_hint, load_target, print_traceback

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ['Binding', 'as_listener', 'main', 'parse_bind']

#: Settings of a server that the command line has, too, and how they are called there where that differs.
SETTINGS = ('trusted_proxies', 'forwarded_headers', 'proxy_protocol', 'max_header_size', 'min_body_rate')
OPTION_NAMES = {'trusted_proxies': '--trusted-proxy', 'forwarded_headers': '--forwarded'}

_address = re.compile(r'(?:\[(?P<ipv6>[^\[\]]+)\]|(?P<host>[^\[\]:]+)):(?P<port>[0-9]{1,5})', re.ASCII)


class Binding(NamedTuple):
    """Where to listen: the arguments of ``listen``, and how it is written in full."""

    args: tuple[Any, ...]
    options: dict[str, Any]
    text: str


def parse_bind(text: str) -> Binding:
    """Return where ``--bind text`` means to listen. Raises :class:`Refused`."""
    kind, _, rest = text.partition(':')
    if kind == 'unix' and rest:
        return Binding((), {'path': rest}, text)
    if kind == 'fd' and rest.isascii() and rest.isdecimal():
        return Binding(({'fd': int(rest)},), {}, text)
    # as gunicorn reads the second one
    whole = f'{DEFAULT_HOST}:{text}' if text.isdecimal() else f'0.0.0.0{text}' if kind == '' else text
    found = _address.fullmatch(whole)
    if found is None or int(found['port']) > 65535:
        raise Refused(
            f'--bind must be HOST:PORT, [IPV6]:PORT, :PORT, PORT, unix:PATH or fd:N, not {text!r}{_bind_meant(text)}'
        )
    return Binding((int(found['port']), found['ipv6'] or found['host']), {}, whole)


def _bind_meant(text: str) -> str:
    """Return the end of a message about ``text``, which is no address to listen on: the one that may be meant."""
    bare = re.sub(r'^[a-z]+://|/+$', '', text)
    if bare.count(':') > 1 and '[' not in bare:
        bare = f'[{bare}]'
    for candidate in (bare, f'{bare}:{DEFAULT_PORT}'):
        found = _address.fullmatch(candidate)
        if found is not None and int(found['port']) <= 65535 and not re.search(r'[\s/]|^\d+:', candidate):
            return f'; did you mean {candidate!r}?'
    if bare.startswith('/'):
        return f'; did you mean {"unix:" + bare!r}?'
    return ''


def _default_binding() -> Binding:
    """Return the socket that systemd passed, or else the default address."""
    from geventnode.net.listen import listen_fds

    passed = listen_fds()
    if len(passed) > 1:
        raise Refused(
            f'{len(passed)} sockets were passed (LISTEN_FDS), and a server listens on one: choose it with '
            f'--bind fd:N, N from {passed[0]} to {passed[-1]}'
        )
    return parse_bind(f'fd:{passed[0]}' if passed else f'{DEFAULT_HOST}:{DEFAULT_PORT}')


# -- serving ----------------------------------------------------------------------------------------------------------


def _set_up_logging(access: bool) -> None:
    """Let loggers write to the standard streams, where the target has not decided otherwise."""
    import logging

    to_errors = _error_handler()
    for name, level in (('geventnode.error', logging.INFO), ('geventnode.connection', logging.DEBUG)):
        errors = logging.getLogger(name)
        if not errors.hasHandlers():
            errors.addHandler(to_errors)
            errors.setLevel(level)
            errors.propagate = False
    log = logging.getLogger('geventnode.access')
    if access and not log.handlers:
        log.addHandler(_access_handler())
        log.setLevel(logging.INFO)
        log.propagate = False


@contextlib.contextmanager
def _connections_shown() -> Iterator[None]:
    """Write the events of connections, however the target has configured logging: to the handlers that the logger has
    itself, or else to standard error."""
    import logging

    log = logging.getLogger('geventnode.connection')
    level, propagate = log.level, log.propagate
    log.setLevel(logging.DEBUG)
    handler = None
    if not any(each.level <= logging.DEBUG for each in log.handlers):
        handler = _error_handler()
        log.addHandler(handler)
        log.propagate = False
    try:
        yield
    finally:
        log.setLevel(level)
        log.propagate = propagate
        if handler is not None:
            log.removeHandler(handler)


def _error_handler() -> Any:
    import logging

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter('%(asctime)s %(levelname)s %(message)s'))
    return handler


def _access_handler() -> Any:
    import logging
    import os

    class ToOutput(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            try:
                sys.stdout.write(f'{self.format(record)}\n')
                sys.stdout.flush()
            except OSError as error:
                # nobody reads the lines any more, or the disk is full: no reason to stop serving
                log = logging.getLogger('geventnode.access')
                log.removeHandler(self)
                log.setLevel(logging.CRITICAL + 1)
                logging.getLogger('geventnode.error').error('the access log ends here: %s', error)
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, sys.stdout.fileno())
                os.close(nowhere)

    return ToOutput()


def _listen(server: Any, binding: Binding) -> None:
    from geventnode.errors import InvalidInput

    try:
        server.listen(*binding.args, **binding.options)
    except InvalidInput as error:
        raise Refused(str(error)) from error
    except (OSError, OverflowError) as error:
        raise _cannot_listen(error, binding) from error


def _check_binding(binding: Binding) -> None:
    """Raise :class:`Refused` if listening at ``binding`` fails, and keep nothing of the attempt. For gunicorn, which
    tries for five seconds and takes the path of a server that is alive."""
    import os
    import socket

    from geventnode.net.listen import is_in_use

    path = binding.options.get('path')
    try:
        if path is not None:
            if is_in_use(path):
                raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
            if not os.access(os.path.dirname(path) or '.', os.W_OK | os.X_OK):
                os.stat(os.path.dirname(path) or '.')
                raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        elif isinstance(binding.args[0], dict):
            os.fstat(binding.args[0]['fd'])
        else:
            port, host = binding.args
            family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            with socket.socket(family, kind, protocol) as attempt:
                attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                attempt.bind(address)
    except OSError as error:
        raise _cannot_listen(error, binding) from error


def _cannot_listen(error: Exception, binding: Binding) -> Refused:
    reason = getattr(error, 'strerror', None) or error
    return Refused(f'cannot listen on {binding.text}: {reason}{_remedy(error, binding)}')


def _remedy(error: Exception, binding: Binding) -> str:
    """Return the remedy for an ``error`` of listening at ``binding``."""
    import os
    import socket
    import stat

    from geventnode.errors import NameNotResolved

    if isinstance(error, (NameNotResolved, socket.gaierror)):
        return ': name an address of this machine, as 127.0.0.1, or 0.0.0.0 for all of them'
    number = getattr(error, 'errno', None)
    path = binding.options.get('path')
    if path is not None:
        directory = os.path.dirname(path) or '.'
        if number == errno.EADDRINUSE:
            return (
                ': another process listens there'
                if stat.S_ISSOCK(os.stat(path).st_mode)
                else ': it is a file, and no socket that a server has left'
            )
        if number == errno.ENOENT:
            return f': make the directory {directory} first'
        if number == errno.EACCES:
            return f': this user may not write to the directory {directory}'
        return ''
    if number == errno.EADDRINUSE:
        return ': another process listens there; stop it, or choose another port with --bind'
    if number == errno.EACCES:
        return (
            ': ports below 1024 need a privilege; choose another one with --bind, let systemd pass the socket '
            '(LISTEN_FDS), or put a proxy in front'
        )
    if number == errno.EADDRNOTAVAIL:
        return ': no interface of this machine has that address; 0.0.0.0 and [::] are all of them'
    return ''


def _url(server: Any) -> str:
    address = server.address()
    if isinstance(address, str):
        return f'unix:{address}'
    host = address['address']
    scheme = 'https' if hasattr(server, 'handshake_timeout') else 'http'
    return f'{scheme}://{f"[{host}]" if ":" in host else host}:{address["port"]}/'


def _run(server: Any, what: str, options: argparse.Namespace) -> int:
    """Serve until a signal comes or the server is closed; return the exit status. May switch."""
    import signal

    import gevent
    from gevent.event import Event

    told = Event()
    forced: list[int] = []

    def stop(number: int) -> None:
        if told.is_set():
            forced.append(number)
            server.close_all_connections()
        told.set()

    debugging = contextlib.ExitStack()

    def debug() -> None:
        server.debug_connections = not server.debug_connections
        if server.debug_connections:
            debugging.enter_context(_connections_shown())
        else:
            debugging.close()
        print(f'geventnode: debug_connections is {"on" if server.debug_connections else "off"}', file=sys.stderr)

    ending = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        # unless nohup has said that the end of the terminal is not the end of the process
        ending.append(signal.SIGHUP)
    watchers: list[Any] = [gevent.signal_handler(number, stop, number) for number in ending]
    watchers.append(gevent.signal_handler(signal.SIGUSR1, debug))
    server.once('close', told.set)
    print(
        f'Serving {what} on {_url(server)}\n'
        f'To stop, press Ctrl+C or send SIGTERM: requests in work get {options.grace:g} s to finish, a second time '
        'none.',
        flush=True,
    )
    if options.monitor is not None:
        who = 'clients on this machine' if options.monitor_clients is None else ', '.join(options.monitor_clients)
        print(f'The monitor is at {options.monitor}, for {who}', flush=True)
    told.wait()
    _drain(server, options.grace)
    for watcher in watchers:
        watcher.cancel()
    return 128 + forced[0] if forced else 0


def _drain(server: Any, grace: float) -> None:
    import gevent

    if server.listening:
        server.close()
    connections = server.get_connections()
    if connections:
        print(f'Stopping: {connections} open connection(s)', flush=True)
    if gevent.with_timeout(grace, server.stop, timeout_value=True):
        print(f'geventnode: {server.get_connections()} connection(s) cut off after {grace:g} s', file=sys.stderr)
        server.stop(0)


def _plain_or_secure(listener: Any, **settings: Any) -> Any:
    from geventnode import http

    if not settings:
        return http.create_server(listener)
    from geventnode import https

    return https.create_server(listener, **settings)


def as_listener(target: Any, options: argparse.Namespace) -> Any:
    """Return ``target`` as a request listener, whatever kind of callable it is. Raises
    :class:`Refused`."""
    import inspect

    from geventnode.http.server.listener_checks import asgi_problem, check_listener
    from geventnode.integrations.wsgi import check_application, is_wsgi, wsgi

    name = options.target
    problem = asgi_problem(target)
    if problem is not None:
        raise Refused(f'{name!r} is {problem}')
    found = is_wsgi(target)
    kind = options.kind or {True: 'wsgi', False: 'listener', None: None}[found]
    if kind == 'listener' and found:
        raise Refused(f'{name!r} is a WSGI application, by the names of its parameters: leave out --listener')
    if kind == 'listener' or (kind is None and not inspect.isgeneratorfunction(target)):
        try:
            check_listener('request', target)
        except TypeError as error:
            raise Refused(f'{name!r}: {error}') from error
    if kind == 'wsgi':
        try:
            check_application(target)
        except TypeError as error:
            raise Refused(f'{name!r}: {error}') from error
    check_callable(target, name)
    if kind is None and isinstance(target, type):
        raise Refused(
            f'{name!r} is a class: name an instance of it, or say --wsgi or --listener if it is called with '
            'each request'
        )
    if kind is None:
        raise Refused(
            f'{name!r} may be a WSGI application or a request listener: say --wsgi or --listener'
            f'{factory_hint(target, name)}'
        )
    return wsgi(target) if kind == 'wsgi' else target


def _make(create: Callable[..., Any], options: argparse.Namespace) -> Any:
    """Return what ``create`` makes with the settings of TLS that the command line has."""
    from geventnode.errors import InvalidInput

    settings = {name: value for name in ('certfile', 'keyfile') if (value := getattr(options, name)) is not None}
    try:
        return create(**settings)
    except InvalidInput as error:
        raise Refused(str(error)) from error


def _check_options(options: argparse.Namespace) -> None:
    """Raise :class:`Refused` for options that have no effect without others."""
    if options.trusted_proxies and not (options.forwarded_headers or options.proxy_protocol):
        raise Refused('--trusted-proxy has no effect without --forwarded FIELD or --proxy-protocol; add one of them')
    if options.monitor_clients is not None and options.monitor is None:
        raise Refused('--monitor-client has no effect without --monitor; add that')


def _apply_settings(server: Any, options: argparse.Namespace) -> None:
    """Set on ``server`` the settings that the command line has."""
    from geventnode.errors import InvalidInput

    try:
        for name in SETTINGS:
            if getattr(options, name) is not None:
                setattr(server, name, getattr(options, name))
    except InvalidInput as error:
        raise Refused(str(error)) from error


def _mount_monitor(server: Any, options: argparse.Namespace) -> None:
    """Put the monitor in front of what ``server`` does, where the command line asks for it."""
    if options.monitor is None:
        return
    from geventnode.errors import InvalidInput
    from geventnode.monitor import Monitor

    try:
        Monitor(clients=options.monitor_clients).mount(server, options.monitor)
    except InvalidInput as error:
        raise Refused(f'--monitor: {error}') from error


def _own_settings(options: argparse.Namespace) -> str | None:
    """Return the first option in ``options`` that is a setting of the server that the command makes, or None."""
    if options.kind is not None:
        return f'--{options.kind}'
    for name in ('certfile', 'keyfile', *SETTINGS):
        if getattr(options, name) is not None:
            return OPTION_NAMES.get(name, f'--{name.replace("_", "-")}')
    return None


def _server_of(options: argparse.Namespace) -> Any:
    """Return the server that ``options`` ask for. May switch: runs the target's own code, whose exceptions it lets
    pass. Raises :class:`Refused`."""
    from geventnode import http

    if options.target is None:
        from geventnode.cli.demo import create_server

        target: Any = _make(create_server, options)
    else:
        target = load_target(options.target)
    if not isinstance(target, http.Server):
        server = _make(partial(_plain_or_secure, as_listener(target, options)), options)
    elif options.target is not None and (own := _own_settings(options)) is not None:
        raise Refused(f'{options.target!r} is an http.Server with settings of its own: leave out {own}')
    else:
        server = target
    if options.target is None or server is not target:
        from geventnode.http.server.deadlines import UPLOAD_RATE

        server.min_body_rate = UPLOAD_RATE
    _apply_settings(server, options)
    _mount_monitor(server, options)
    return server


def _serve(options: argparse.Namespace) -> int:
    _check_options(options)
    binding = None if options.bind is None else parse_bind(options.bind)
    if options.workers is not None:
        return _serve_with_workers(options, binding)

    from gevent import monkey

    monkey.patch_all()

    from geventnode import http
    from geventnode.loggers import keep_enabled

    keep_enabled('geventnode.error', 'geventnode.access', 'geventnode.connection')

    try:
        server = _server_of(options)
    except Refused:
        raise
    except Exception as error:
        print_traceback(error, __file__)
        return 1
    _set_up_logging(options.access_log)
    if options.access_log:
        http.log_access(server)
    if not server.listening:
        _listen(server, binding or _default_binding())
    elif binding is not None:
        raise Refused(f'{options.target!r} is listening already, on {_url(server)}: leave out --bind')
    return _run(server, options.target or 'the demo page', options)


def _serve_with_workers(options: argparse.Namespace, binding: Binding | None) -> int:
    """Let gunicorn serve, whose workers patch and load by themselves. Raises ``SystemExit`` and :class:`Refused`."""
    import os

    try:
        from geventnode.integrations.gunicorn import NotServable, run
    except ModuleNotFoundError as error:
        if error.name != 'gunicorn':
            raise
        raise Refused("--workers needs gunicorn, which is not installed: pip install 'geventnode[gunicorn]'") from error

    from geventnode.net.listen import listen_fds

    if binding is None and not listen_fds():
        binding = parse_bind(f'{DEFAULT_HOST}:{DEFAULT_PORT}')
    if binding is not None and 'GUNICORN_PID' not in os.environ:
        # a new master takes the sockets of the old one over (SIGUSR2)
        _check_binding(binding)

    def load() -> Any:
        try:
            return _server_of(options)
        except Refused as refused:
            raise NotServable(f'geventnode: {refused}') from refused
        except Exception as error:
            print_traceback(error, __file__)
            raise NotServable(f'geventnode: {options.target!r} cannot be loaded: {error}') from error

    address = f'{DEFAULT_HOST}:{DEFAULT_PORT}' if binding is None else binding.text
    run(
        load,
        bind=[address.replace('fd:', 'fd://') if address.startswith('fd:') else address],
        workers=options.workers,
        graceful_timeout=round(options.grace),
        worker_connections=0,
        accesslog='-' if options.access_log else None,
        umask=_umask(),
        proc_name=options.target or 'demo',
        control_socket_disable=True,
    )
    return 0


def _umask() -> int:
    """Return the umask of this process, which decides about the mode of a Unix socket."""
    import os

    mask = os.umask(0)
    os.umask(mask)
    return mask


# -- requests ---------------------------------------------------------------------------------------------------------


def _get(options: argparse.Namespace) -> int:
    import signal

    if options.data is not None and len(options.data) > 1:
        raise Refused('-d can be given once')
    # until there is something to tidy up, Ctrl+C may end the process at once
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    from geventnode.cli.get import run

    status = run(options)
    if status < 0:
        # whoever waits for the process shall see what ended it: a shell then ends its loops, too
        signal.signal(-status, signal.SIG_DFL)
        signal.raise_signal(-status)
    return status


def _doctor(options: argparse.Namespace) -> int:
    from geventnode.cli.doctor import run

    return run(options)


def main(arguments: list[str] | None = None) -> int:
    """Run the command ``geventnode`` with ``arguments`` (those of the process, unless given) and return its exit
    status. May switch. Raises ``SystemExit`` for a command line that is none."""
    options = parse(arguments, serve=_serve, get=_get, doctor=_doctor)
    try:
        return int(options.run(options))
    except Refused as refused:
        print(f'geventnode: {refused}', file=sys.stderr)
        return refused.status

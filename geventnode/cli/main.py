"""The command ``geventnode``: one function for each of ``serve``, ``get`` and ``doctor``.

``serve`` patches the standard library before it loads anything else, because modules imported earlier would keep the
blocking functions. The imports at the top of this file are therefore only those that parse the command line.

A user's mistake (an address, a name, a port in use) is one line on standard error and exit status 2. An exception of
the target's own code is shown with its traceback, exit status 1. Standard output is for the server's address and the
access log, standard error for everything that goes wrong; and for the address, if the log is JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import re
import sys
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

from geventnode.cli.arguments import DEFAULT_HOST, DEFAULT_PORT, parse
from geventnode.cli.lines import say
from geventnode.cli.targets import (
    UsageError,
    check_callable,
    exit_reported,
    factory_hint,
    load_target,
    print_traceback,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from geventnode.cli.reload import Parent

__all__ = [
    'Binding',
    'as_listener',
    'doctor',
    'get',
    'main',
    'parse_bind',
    'serve',
    'serve_reloading',
    'serve_with_workers',
]


def main(arguments: list[str] | None = None) -> int:
    """Run the command, and return its exit status.

    Blocks until it ends. Raises ``SystemExit`` for a command line that cannot be parsed.

    :param arguments: without the name of the program; None: those of the process.
    """
    options = parse(arguments, serve=serve, get=get, doctor=doctor)
    try:
        return int(options.run(options))
    except UsageError as error:
        say(f'geventnode: {error}', sys.stderr)
        return error.status


# -- the commands -----------------------------------------------------------------------------------------------------


def serve(options: argparse.Namespace) -> int:
    """Run ``geventnode serve``: patch the standard library, load the target, listen, and serve.

    Blocks until the server has stopped. Returns the exit status. Raises :class:`UsageError`.
    """
    _check_combinations(options)
    binding = None if options.bind is None else parse_bind(options.bind)
    if options.workers is not None:
        return serve_with_workers(options, binding)
    parent = None
    if options.reload_on_hup:
        from geventnode.cli.reload import Parent, supervised

        inherited = supervised()
        if inherited is None:
            return serve_reloading(options, binding or _default_binding())
        parent = Parent(inherited)
        binding = Binding(({'fd': inherited.listener},), {}, f'descriptor {inherited.listener} of the parent')

    from gevent import monkey

    monkey.patch_all()

    from geventnode import http
    from geventnode.loggers import keep_enabled

    keep_enabled('geventnode.error', 'geventnode.access', 'geventnode.connection')

    try:
        with exit_reported(options.target):
            server = _make_server(options)
    except UsageError:
        raise
    except Exception as error:
        print_traceback(error, __file__)
        return 1
    _set_up_logging(options.access_log)
    if options.access_log:
        http.log_access(server, options.access_log_format or 'combined')
    if not server.listening:
        _listen(server, binding or _default_binding())
    elif binding is not None:
        option = '--bind' if parent is None else '--reload-on-hup, or the call of listen()'
        raise UsageError(f'{options.target!r} is already listening on {_url(server)}; remove {option}')
    if parent is not None:
        parent.forget_listener()
    return _serve_until_signal(server, options.target or 'the demo page', options, parent)


def serve_reloading(options: argparse.Namespace, binding: Binding) -> int:
    """Run ``geventnode serve --reload-on-hup``: listen, and let other processes serve.

    Each runs the command line of this process again. Blocks until all of them have ended. Returns the exit status.
    Raises :class:`UsageError`.
    """
    from geventnode.cli.reload import ReloadingServer
    from geventnode.net.listen import open_listener, parse_listen

    with _listen_errors(binding):
        listener = open_listener(parse_listen(binding.args, **binding.options))
    command = [sys.executable, *sys.orig_argv[1:]]
    return ReloadingServer(command, listener, binding.options.get('path'), _notices(options)).run()


def serve_with_workers(options: argparse.Namespace, binding: Binding | None) -> int:
    """Run ``geventnode serve --workers``: gunicorn's workers patch, load and serve.

    Blocks until gunicorn ends, which raises ``SystemExit``. Raises :class:`UsageError`.
    """
    import io
    import os

    try:
        from geventnode.integrations.gunicorn import JSONAccessLogger, NotServable, run
    except ModuleNotFoundError as error:
        if error.name != 'gunicorn':
            raise
        raise UsageError(
            "--workers needs gunicorn, which is not installed; pip install 'geventnode[gunicorn]'"
        ) from error

    from geventnode.net.listen import listen_fds

    if binding is None and not listen_fds():
        binding = parse_bind(f'{DEFAULT_HOST}:{DEFAULT_PORT}')
    if binding is not None and 'GUNICORN_PID' not in os.environ:
        # after SIGUSR2, a new master inherits the sockets of the old one
        _check_binding(binding)

    def load() -> Any:
        try:
            return _make_server(options)
        except UsageError as error:
            raise NotServable(f'geventnode: {error}') from error
        except (Exception, SystemExit) as error:
            reason = f'it called sys.exit({error.code!r})' if isinstance(error, SystemExit) else str(error)
            with io.StringIO() as text, contextlib.redirect_stderr(text):
                print_traceback(error, __file__)
                raise NotServable(
                    f'{text.getvalue()}geventnode: {options.target!r} cannot be loaded: {reason}'
                ) from error

    address = f'{DEFAULT_HOST}:{DEFAULT_PORT}' if binding is None else binding.text
    run(
        load,
        bind=[address.replace('fd:', 'fd://') if address.startswith('fd:') else address],
        workers=options.workers,
        graceful_timeout=round(options.grace),
        worker_connections=0,
        accesslog='-' if options.access_log else None,
        **({'logger_class': JSONAccessLogger} if options.access_log_format == 'json' else {}),
        umask=_umask(),
        proc_name=options.target or 'demo',
        control_socket_disable=True,
    )
    return 0


def get(options: argparse.Namespace) -> int:
    """Run ``geventnode get``: make one request.

    Blocks until the exchange is over. Returns the exit status. Raises :class:`UsageError`. If a signal ended the
    exchange, it ends the process.
    """
    import signal

    if options.data is not None and len(options.data) > 1:
        raise UsageError('-d was given more than once; give it once')
    # until there is a file to remove, Ctrl+C can end the process at once
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    from geventnode.cli.get import run

    status = run(options)
    if status < 0:
        # the parent process has to see the signal: a shell then ends its loops, too
        signal.signal(-status, signal.SIG_DFL)
        signal.raise_signal(-status)
    return status


def doctor(options: argparse.Namespace) -> int:
    """Run ``geventnode doctor``: print a report.

    Blocks while the target is imported. Returns the exit status. Raises :class:`UsageError`.
    """
    from geventnode.cli.doctor import run

    return run(options)


# -- addresses to listen on -------------------------------------------------------------------------------------------

_address = re.compile(r'(?:\[(?P<ipv6>[^\[\]]+)\]|(?P<host>[^\[\]:]+)):(?P<port>[0-9]{1,5})', re.ASCII)


class Binding(NamedTuple):
    """An address to listen on.

    :ivar args: the positional arguments of :meth:`geventnode.http.Server.listen`.
    :ivar options: its keyword arguments.
    :ivar text: the complete address, for messages.
    """

    args: tuple[Any, ...]
    options: dict[str, Any]
    text: str


def parse_bind(text: str) -> Binding:
    """Parse the value of ``--bind``. Raises :class:`UsageError`."""
    kind, _, rest = text.partition(':')
    if kind == 'unix' and rest:
        return Binding((), {'path': rest}, text)
    if kind == 'fd' and rest.isascii() and rest.isdecimal():
        return Binding(({'fd': int(rest)},), {}, text)
    # gunicorn, too, reads ':PORT' as all IPv4 addresses
    complete = f'{DEFAULT_HOST}:{text}' if text.isdecimal() else f'0.0.0.0{text}' if kind == '' else text
    found = _address.fullmatch(complete)
    if found is None or int(found['port']) > 65535:
        raise UsageError(
            f'--bind must be HOST:PORT, [IPV6]:PORT, :PORT, PORT, unix:PATH or fd:N, not {text!r}'
            f'{_bind_suggestion(text)}'
        )
    return Binding((int(found['port']), found['ipv6'] or found['host']), {}, complete)


def _bind_suggestion(text: str) -> str:
    """Return a suggestion for the bad address ``text``; empty without one."""
    bare = re.sub(r'^[a-z]+://|/+$', '', text)
    if bare.count(':') > 1 and '[' not in bare:
        host, _, port = bare.rpartition(':')
        # '::1:8000' is an address, too, but a port has been meant
        bare = f'[{host}]:{port}' if port.isdecimal() and _is_ipv6(host) else f'[{bare}]'
    for candidate in (bare, f'{bare}:{DEFAULT_PORT}'):
        found = _address.fullmatch(candidate)
        if found is not None and int(found['port']) <= 65535 and not re.search(r'[\s/]|^-?\d+:', candidate):
            return f'; did you mean {candidate!r}?'
    if bare.startswith('/'):
        return f'; did you mean {"unix:" + bare!r}?'
    return ''


def _is_ipv6(text: str) -> bool:
    import socket

    try:
        socket.inet_pton(socket.AF_INET6, text)
    except OSError:
        return False
    return True


def _default_binding() -> Binding:
    """Return the socket that systemd passed, or else the default address."""
    from geventnode.net.listen import listen_fds

    passed = listen_fds()
    if len(passed) > 1:
        raise UsageError(
            f'systemd passed {len(passed)} sockets (LISTEN_FDS), but a server listens on one; choose it with '
            f'--bind fd:N, N from {passed[0]} to {passed[-1]}'
        )
    return parse_bind(f'fd:{passed[0]}' if passed else f'{DEFAULT_HOST}:{DEFAULT_PORT}')


def _listen(server: Any, binding: Binding) -> None:
    with _listen_errors(binding):
        server.listen(*binding.args, **binding.options)


@contextlib.contextmanager
def _listen_errors(binding: Binding) -> Iterator[None]:
    """Raise :class:`UsageError` if the block cannot listen at ``binding``."""
    from geventnode.errors import InvalidInput

    try:
        yield
    except InvalidInput as error:
        raise UsageError(str(error)) from error
    except (OSError, OverflowError) as error:
        raise _cannot_listen(error, binding) from error


def _check_binding(binding: Binding) -> None:
    """Raise :class:`UsageError` if listening at ``binding`` would fail.

    Gunicorn does not report it well: it retries a port for five seconds, and takes over the path of a live server.
    """
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


def _cannot_listen(error: Exception, binding: Binding) -> UsageError:
    reason = getattr(error, 'strerror', None) or error
    remedy = _listen_remedy(error, binding)
    return UsageError(f'cannot listen on {binding.text}: {reason}{f"; {remedy}" if remedy else ""}')


def _listen_remedy(error: Exception, binding: Binding) -> str:
    """Return the cause of the ``error`` or its remedy; empty without one."""
    import os
    import socket
    import stat

    from geventnode.errors import NameNotResolved

    if isinstance(error, (NameNotResolved, socket.gaierror)):
        return 'use an address of this machine, such as 127.0.0.1, or 0.0.0.0 for all of them'
    number = getattr(error, 'errno', None)
    path = binding.options.get('path')
    if path is not None:
        directory = os.path.dirname(path) or '.'
        if number == errno.EADDRINUSE:
            return (
                'another process is listening there'
                if stat.S_ISSOCK(os.stat(path).st_mode)
                else 'it is a file, not a socket that a server has left'
            )
        if number == errno.ENOENT:
            return f'create the directory {directory} first'
        if number == errno.EACCES:
            return f'this user has no write permission in the directory {directory}'
        return ''
    if number == errno.EADDRINUSE:
        return 'another process is listening there: stop it, or choose another port with --bind'
    if number == errno.EACCES:
        return (
            'ports below 1024 need a privilege: choose another port with --bind, let systemd pass the socket '
            '(LISTEN_FDS), or listen behind a proxy'
        )
    if number == errno.EADDRNOTAVAIL:
        return 'no interface of this machine has the address: use 0.0.0.0 or [::] for all of them'
    return ''


def _umask() -> int:
    """Return the process's umask, which decides the mode of a Unix socket."""
    import os

    mask = os.umask(0)
    os.umask(mask)
    return mask


# -- the server -------------------------------------------------------------------------------------------------------

#: The settings of a server that the command line has.
SETTINGS = (
    'trusted_proxies',
    'forwarded_headers',
    'proxy_protocol',
    'max_header_size',
    'min_body_rate',
    'http2_max_concurrent_streams',
)
TLS_SETTINGS = 'certfile', 'keyfile'
#: Their options, if the names differ.
OPTION_NAMES = {'trusted_proxies': '--trusted-proxy', 'forwarded_headers': '--forwarded'}

#: Parts of the errors about certificates. The command has no option for a password.
RENAMED_PARTS = {
    'certfile, keyfile or password: ': '--certfile or --keyfile: ',
    '; set keyfile, too': '; add --keyfile FILE',
    'set password, or use a key': 'use a key',
}


def _check_combinations(options: argparse.Namespace) -> None:
    """Raise :class:`UsageError` for options that have no effect without others."""
    if options.trusted_proxies and not (options.forwarded_headers or options.proxy_protocol):
        raise UsageError('--trusted-proxy has no effect without --forwarded FIELD or --proxy-protocol; add one of them')
    if options.forwarded_headers and not options.trusted_proxies:
        raise UsageError('--forwarded has no effect without --trusted-proxy ADDRESS; add it')
    if options.proxy_protocol and not options.trusted_proxies:
        raise UsageError('--proxy-protocol without --trusted-proxy ADDRESS would refuse every connection; add it')
    if options.keyfile is not None and options.certfile is None:
        raise UsageError('--keyfile has no effect without --certfile FILE; add it')
    if options.http2_max_concurrent_streams is not None and not options.http2:
        raise UsageError('--http2-max-concurrent-streams has no effect without --http2; add it')
    if options.access_log_format is not None and not options.access_log:
        raise UsageError('--access-log-format has no effect with --no-access-log; remove one of them')
    if options.monitor_clients is not None and options.monitor is None:
        raise UsageError('--monitor-client has no effect without --monitor; add it')
    if options.kind is not None and options.target is None:
        raise UsageError(f'--{options.kind} has no effect without TARGET; name a file or a module')


def _make_server(options: argparse.Namespace) -> Any:
    """Return the server that ``options`` specify.

    It is not listening unless the target itself has called ``listen()``. Blocks as long as the
    target's own code does. Raises :class:`UsageError`, and the exceptions of that code.
    """
    from geventnode import http

    if options.target is None:
        from geventnode.cli.demo import create_server

        target: Any = _with_tls(create_server, options)
    else:
        target = load_target(options.target)
    if not isinstance(target, http.Server):
        server = _with_tls(partial(_create_server, as_listener(target, options)), options)
    elif options.target is not None and (option := _server_option(options)) is not None:
        raise UsageError(f'{options.target!r} is an http.Server, which has its own settings; remove {option}')
    else:
        server = target
    if options.target is None or server is not target:
        from geventnode.http.server.deadlines import UPLOAD_RATE

        server.min_body_rate = UPLOAD_RATE
    _apply_settings(server, options)
    _mount_monitor(server, options)
    return server


def as_listener(target: Any, options: argparse.Namespace) -> Any:
    """Return ``target``, a listener or a WSGI application, as a request listener. Raises :class:`UsageError`."""
    import inspect

    from geventnode.http.server.listener_checks import asgi_problem, check_listener
    from geventnode.integrations.wsgi import check_application, is_wsgi, wsgi

    name = options.target
    problem = asgi_problem(target)
    if problem is not None:
        raise UsageError(f'{name!r} is {problem}')
    found = is_wsgi(target)
    kind = options.kind or {True: 'wsgi', False: 'listener', None: None}[found]
    if kind == 'listener' and found:
        raise UsageError(f'{name!r} is a WSGI application, as the names of its parameters show; remove --listener')
    if kind == 'listener' or (kind is None and not inspect.isgeneratorfunction(target)):
        try:
            check_listener('request', target)
        except TypeError as error:
            raise UsageError(f'{name!r}: {error}') from error
    if kind == 'wsgi':
        try:
            check_application(target)
        except TypeError as error:
            raise UsageError(f'{name!r}: {error}') from error
    check_callable(target, name)
    if kind is None and isinstance(target, type):
        raise UsageError(
            f'{name!r} is a class; use an instance of it, or add --wsgi or --listener if each request calls the class'
        )
    if kind is None:
        raise UsageError(
            f'{name!r} can be a WSGI application or a request listener; add --wsgi or --listener'
            f'{factory_hint(target, name)}'
        )
    return wsgi(target) if kind == 'wsgi' else target


def _create_server(listener: Any, http2: bool = False, **tls: Any) -> Any:
    from geventnode import http

    if not tls:
        return http.create_server(listener, http2=http2)
    from geventnode import https

    return https.create_server(listener, http2=http2, **tls)


def _with_tls(create: Callable[..., Any], options: argparse.Namespace) -> Any:
    """Call ``create`` with the settings for TLS and HTTP/2."""
    from geventnode.errors import InvalidInput

    settings = {name: value for name in (*TLS_SETTINGS, 'http2') if (value := getattr(options, name)) is not None}
    if options.http2:
        _check_http2()
    try:
        return create(**settings)
    except InvalidInput as error:
        raise UsageError(_with_option_name(str(error))) from error


def _check_http2() -> None:
    from importlib.util import find_spec

    for name in ('hpack', 'hyperframe'):
        if find_spec(name) is None:
            raise UsageError(f"--http2 needs {name}, which is not installed; pip install 'geventnode[http2]'")


def _server_option(options: argparse.Namespace) -> str | None:
    """Return the first option that configures the command's own server, or None."""
    if options.kind is not None:
        return f'--{options.kind}'
    for name in (*TLS_SETTINGS, 'http2', *SETTINGS):
        if getattr(options, name) is not None:
            return _option_name(name)
    return None


def _apply_settings(server: Any, options: argparse.Namespace) -> None:
    from geventnode.errors import InvalidInput

    try:
        for name in SETTINGS:
            if getattr(options, name) is not None:
                setattr(server, name, getattr(options, name))
    except InvalidInput as error:
        raise UsageError(_with_option_name(str(error))) from error


def _with_option_name(text: str) -> str:
    """Replace settings in an error by their options."""
    for part, renamed in RENAMED_PARTS.items():
        text = text.replace(part, renamed)
    name = re.split('[: ]', text, maxsplit=1)[0]
    return f'{_option_name(name)}{text[len(name) :]}' if name in (*TLS_SETTINGS, *SETTINGS) else text


def _option_name(setting: str) -> str:
    return OPTION_NAMES.get(setting, f'--{setting.replace("_", "-")}')


def _mount_monitor(server: Any, options: argparse.Namespace) -> None:
    if options.monitor is None:
        return
    from geventnode.errors import InvalidInput
    from geventnode.monitor import Monitor

    try:
        Monitor(clients=options.monitor_clients).mount(server, options.monitor)
    except InvalidInput as error:
        text = str(error)
        name = 'clients: '
        option = '--monitor-client: ' if text.startswith(name) else '--monitor: '
        raise UsageError(f'{option}{text.removeprefix(name)}') from error


# -- serving ----------------------------------------------------------------------------------------------------------


def _serve_until_signal(server: Any, name: str, options: argparse.Namespace, parent: Parent | None = None) -> int:
    """Serve until a signal arrives or the server closes, then drain.

    Returns the exit status. A second signal closes all connections at once. SIGUSR1 turns the log of
    connections on and off.

    :param parent: the process that handles SIGHUP; its end stops the server, too.
    """
    import signal

    import gevent
    from gevent.event import Event

    stopping = Event()
    forced: list[int] = []

    def stop(number: int) -> None:
        if stopping.is_set():
            forced.append(number)
            server.close_all_connections()
        stopping.set()

    debugging = contextlib.ExitStack()

    def toggle_debugging() -> None:
        server.debug_connections = not server.debug_connections
        if server.debug_connections:
            debugging.enter_context(_connections_logged())
        else:
            debugging.close()
        say(f'geventnode: debug_connections is {"on" if server.debug_connections else "off"}', sys.stderr)

    signals = [signal.SIGINT, signal.SIGTERM]
    watchers: list[Any] = []
    if parent is not None:
        # for a signal to the whole process group
        watchers.append(gevent.signal_handler(signal.SIGHUP, lambda: None))
    elif hasattr(signal, 'SIGHUP') and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        # under nohup, the process outlives its terminal
        signals.append(signal.SIGHUP)
    watchers += [gevent.signal_handler(number, stop, number) for number in signals]
    if hasattr(signal, 'SIGUSR1'):
        watchers.append(gevent.signal_handler(signal.SIGUSR1, toggle_debugging))
    server.once('close', stopping.set)
    notices = _notices(options)
    say(
        f'Serving {name} on {_url(server)}\n'
        f'To stop, press Ctrl+C or send SIGTERM: active requests then have {options.grace:g} s to finish. '
        'A second signal stops at once.',
        notices,
    )
    if options.monitor is not None:
        clients = 'clients on this machine' if options.monitor_clients is None else ', '.join(options.monitor_clients)
        say(f'The monitor is at {options.monitor}, for {clients}', notices)
    if parent is not None:
        # after the lines above: the parent writes the next one
        parent.notify_ready(when_dead=stopping.set)
    stopping.wait()
    _drain(server, options.grace, notices)
    for watcher in watchers:
        watcher.cancel()
    return 128 + forced[0] if forced else 0


def _notices(options: argparse.Namespace) -> TextIO:
    """Return the output for notices: a log in JSON has no other lines."""
    return sys.stderr if options.access_log_format == 'json' else sys.stdout


def _drain(server: Any, grace: float, notices: TextIO) -> None:
    import gevent

    if server.listening:
        server.close()
    connections = server.get_connections()
    if connections:
        say(f'Stopping: {connections} open connection(s)', notices)
    if gevent.with_timeout(grace, server.stop, timeout_value=True):
        say(f'geventnode: {server.get_connections()} connection(s) aborted after {grace:g} s', sys.stderr)
        server.stop(0)


def _url(server: Any) -> str:
    address = server.address()
    if isinstance(address, str):
        return f'unix:{address}'
    host = address['address']
    scheme = 'https' if hasattr(server, 'handshake_timeout') else 'http'
    return f'{scheme}://{f"[{host}]" if ":" in host else host}:{address["port"]}/'


# -- logging ----------------------------------------------------------------------------------------------------------


def _set_up_logging(access: bool) -> None:
    """Let loggers write to the standard streams, unless the target configured them."""
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
def _connections_logged() -> Iterator[None]:
    """Log the events of connections at any level that the target configured.

    They are written to the logger's own handlers or, without one for DEBUG, to standard error.
    """
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

    class OutputHandler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            try:
                sys.stdout.write(f'{self.format(record)}\n')
                sys.stdout.flush()
            except OSError as error:
                # the pipe has no reader, or the disk is full: serving continues without the log
                log = logging.getLogger('geventnode.access')
                log.removeHandler(self)
                log.setLevel(logging.CRITICAL + 1)
                logging.getLogger('geventnode.error').error('the access log ends here: %s', error)
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, sys.stdout.fileno())
                os.close(nowhere)

    return OutputHandler()

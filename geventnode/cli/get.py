"""``geventnode get``: make one request, and write the body of the response.

The exchange runs in its own greenlet. A signal that would end the process kills that greenlet first, so that it leaves
no incomplete file; the caller then raises the signal again. Every error is one line on standard error and an exit
status. An error before the request has begun is a mistake in the command line, any later one a failure.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import importlib
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, cast

import gevent

from geventnode import __version__, http
from geventnode.cli.endpoints import OutputError, Sink, open_sink, open_source
from geventnode.cli.lines import say
from geventnode.errors import CertificateError, ParseError, reduce_exception
from geventnode.protocol import check_name

__all__ = ['run']

FAILURE, WRONG_COMMAND, REFUSED_BY_SERVER = 1, 2, 22

#: Signals that end the exchange, unless the process was started with them ignored (nohup, a shell's background).
#: Windows has no SIGHUP.
SIGNALS = (signal.SIGINT, signal.SIGTERM, *((signal.SIGHUP,) if hasattr(signal, 'SIGHUP') else ()))

#: Node's codes for certificates of an authority that is not trusted.
UNTRUSTED = frozenset(
    {
        'DEPTH_ZERO_SELF_SIGNED_CERT',
        'SELF_SIGNED_CERT_IN_CHAIN',
        'UNABLE_TO_GET_ISSUER_CERT',
        'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
        'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
    }
)

FORM = 'application/x-www-form-urlencoded'

#: curl reads ``http_proxy`` in lower case only: a web server can set the other one (httpoxy).
PROXY_VARIABLES = frozenset({'http_proxy', 'https_proxy', 'HTTPS_PROXY', 'all_proxy', 'ALL_PROXY'})
NO_PROXY_VARIABLES = frozenset({'no_proxy', 'NO_PROXY'})

#: Fields that the request adds itself, so that they can only be removed once it exists.
ADDED_BY_REQUEST = frozenset({'authorization', 'connection', 'content-length', 'transfer-encoding'})


class _Failure(Exception):
    """The exchange ends without a result.

    :ivar status: the exit status.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status

    def __reduce__(self) -> Any:
        return reduce_exception(self)


def run(options: argparse.Namespace) -> int:
    """Make the request of the command line, and return the exit status.

    Blocks until the exchange is over. The status is the negative number of a signal that has to end the process.

    :param options: the parsed options of ``geventnode get``.
    """
    ended: list[int] = []
    worker = gevent.spawn(_exchange_reported, options)

    def end(number: int) -> None:
        ended.append(number)
        worker.kill(block=False)

    with _signals_handled(end):
        worker.join()
    if ended:
        return -ended[0]
    return cast(int, worker.value)


@contextlib.contextmanager
def _signals_handled(handler: Callable[[int], None]) -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in SIGNALS}
    # a handler of Python's signal module would raise at any place, even in the event loop
    watchers = [
        gevent.signal_handler(number, handler, number)
        for number, present in before.items()
        if present is not signal.SIG_IGN
    ]
    try:
        yield
    finally:
        for watcher in watchers:
            watcher.cancel()
        for number, present in before.items():
            if present is not None:
                signal.signal(number, present)


def _exchange_reported(options: argparse.Namespace) -> int:
    """Make the exchange, report its failure, and return the exit status."""
    try:
        _exchange(options)
    except _Failure as failure:
        _report(str(failure))
        return failure.status
    except OutputError as error:
        if error.error.errno == errno.EPIPE:
            return -signal.SIGPIPE
        _report(str(error))
    except Exception as error:
        _report(_description(error))
    else:
        return 0
    return FAILURE


def _exchange(options: argparse.Namespace) -> None:
    with contextlib.ExitStack() as stack:
        body: Any = None
        if options.data is not None:
            body = os.fsencode(options.data[0])
            if body.startswith(b'@'):
                body = _open('read', open_source, options.data[0][1:])
                stack.enter_context(contextlib.closing(body))
        sink: Sink = _open('write', open_sink, options.output)
        stack.enter_context(contextlib.closing(sink))
        request = _request(options, body)
        # if the response is complete while the body is still being sent, the rest of the body is not needed
        stack.callback(request.destroy)
        with request as response:
            if response.upgrade:
                response.socket.destroy()
                raise _Failure(FAILURE, f'the server switched to another protocol ({_status(response)})')
            if options.include:
                sink.write(_head(response))
            if options.fail and (response.status_code or 0) >= 400:
                raise _Failure(REFUSED_BY_SERVER, f'the server responded {_status(response)}')
            for chunk in stack.enter_context(_progress(options, request, response)):
                sink.write(chunk)
            if options.include:
                # directly after the body, as curl writes them
                sink.write(_lines(response.raw_trailers))
        sink.commit()


def _open(verb: str, opening: Callable[[Any], Any], path: str | None) -> Any:
    try:
        return opening(path)
    except (OSError, ValueError) as error:
        # ValueError: a NUL character
        name = 'a standard stream' if path in (None, '-') else repr(path)
        raise _Failure(WRONG_COMMAND, f'cannot {verb} {name}: {_description(error)}') from error


# -- the request ------------------------------------------------------------------------------------------------------


def _request(options: argparse.Namespace, body: Any) -> http.ClientRequest:
    """Begin the request, and return it."""
    try:
        given, removed = _headers(options.header)
        names = {name.lower() for name, _ in given}
        automatic = {'User-Agent': f'geventnode/{__version__}', 'Accept': '*/*', 'Connection': 'close'}
        if body is not None:
            automatic['Content-Type'] = FORM
        headers = [(name, value) for name, value in automatic.items() if name.lower() not in names | removed] + given
        late = removed & ADDED_BY_REQUEST - names
        if late and 'expect' in names:
            # a request with Expect sends its head at once
            raise _Failure(WRONG_COMMAND, f'{min(late)} cannot be removed from a request with Expect')
        request = _requester(options)(
            options.url,
            method=options.request or ('GET' if body is None else 'POST'),
            headers=headers,
            set_host='host' not in removed,
            body=None if late else body,
            deadline=options.timeout,
        )
        for name in late:
            request.remove_header(name)
        if late or body is None:
            request.end(body)
    except ValueError as error:
        # the option "ca" of the client is called --cacert here
        raise _Failure(WRONG_COMMAND, re.sub('^ca: ', '--cacert: ', str(error))) from error
    return request


def _requester(options: argparse.Namespace) -> Callable[..., http.ClientRequest]:
    """Return the function that makes a request with the URL's scheme."""
    settings = {'ca': options.cacert, 'reject_unauthorized': not options.insecure}
    if options.url[:6].lower() == 'https:':
        https = importlib.import_module('geventnode.https')
        return partial(https.request, agent=https.Agent(**_proxies(options)), **settings)
    if options.cacert is not None or options.insecure:
        raise _Failure(WRONG_COMMAND, '--cacert and --insecure have no effect without TLS; use an https: URL')
    return partial(http.request, agent=http.Agent(**_proxies(options)))


def _proxies(options: argparse.Namespace) -> dict[str, Any]:
    """Return the options of an agent for the proxy, as in curl."""
    names = PROXY_VARIABLES if options.proxy is None else frozenset()
    if not options.proxy and not any(os.environ.get(name) for name in names):
        # other programs can have their own entries in no_proxy, which would be refused here
        return {}
    if options.noproxy is None:
        names |= NO_PROXY_VARIABLES
    environment = {name: value for name, value in os.environ.items() if name in names}
    return {'proxy': options.proxy, 'no_proxy': options.noproxy, 'proxy_env': environment}


def _headers(lines: list[str]) -> tuple[list[tuple[str, str]], set[str]]:
    """Return the fields that ``-H`` adds, and the names that it removes."""
    given, removed = [], set()
    for text in lines:
        # the bytes of the command line, unchanged
        line = os.fsencode(text).decode('latin-1')
        name, colon, value = line.partition(':')
        value = value.strip(' \t')
        if not colon:
            name, semicolon, rest = line.partition(';')
            if not semicolon or rest:
                raise _Failure(WRONG_COMMAND, f"-H must be 'Name: value', 'Name:' or 'Name;', not {text!r}")
        lower = check_name(name)
        if colon and not value:
            removed.add(lower)
        else:
            given.append((name, value))
    return given, removed


# -- the response -----------------------------------------------------------------------------------------------------


def _status(response: http.IncomingMessage) -> str:
    return f'{response.status_code} {response.status_message}'.rstrip()


def _head(response: http.IncomingMessage) -> bytes:
    first = f'HTTP/{response.http_version} {response.status_code} {response.status_message}\r\n'
    return first.encode('latin-1') + _lines(response.raw_headers) + b'\r\n'


def _lines(fields: list[tuple[str, str]]) -> bytes:
    return ''.join(f'{name}: {value}\r\n' for name, value in fields).encode('latin-1')


@contextlib.contextmanager
def _progress(options: argparse.Namespace, request: http.ClientRequest, response: Any) -> Iterator[Iterator[bytes]]:
    """Yield the chunks of ``response``, with a progress bar on a terminal."""
    bar = None
    if options.output not in (None, '-') and sys.stderr is not None and sys.stderr.isatty():
        bar = _bar(None if request.method == 'HEAD' else response.headers.get('content-length'))
    if bar is None:
        yield iter(response)
        return
    with bar:
        yield _counted(response, bar.update)


def _counted(response: Any, count: Callable[[int], object]) -> Iterator[bytes]:
    for chunk in response:
        yield chunk
        count(len(chunk))


def _bar(length: str | None) -> Any:
    """Return a progress bar; None if tqdm is not installed."""
    try:
        tqdm = importlib.import_module('tqdm').tqdm
    except ImportError:
        return None
    # one bar needs neither tqdm's monitor thread nor its lock between processes
    bar: Any = type('Bar', (tqdm,), {'monitor_interval': 0})
    bar.set_lock(threading.RLock())
    return bar(
        total=None if length is None else int(length), unit='B', unit_scale=True, unit_divisor=1024, file=sys.stderr
    )


# -- errors -----------------------------------------------------------------------------------------------------------


def _description(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, ParseError):
        return f'the response is not valid HTTP: {error}'
    if isinstance(error, CertificateError) and error.code in UNTRUSTED:
        return f'{error}; --cacert FILE trusts its authority'
    return str(error) or type(error).__name__


def _report(text: str) -> None:
    """Write one line to standard error, without characters that control a terminal."""
    line = ''.join(character if character.isprintable() else '?' for character in text)
    # its reader can have closed it
    with contextlib.suppress(OSError):
        say(f'geventnode: {line}', sys.stderr)

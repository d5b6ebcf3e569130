"""``geventnode get``: one exchange with a server, on behalf of a command line.

The exchange runs in a greenlet of its own. Signals that would end the process end that greenlet first, so that it
leaves no half-written file; the caller then lets the signal have its way. Whatever goes wrong is one line on standard
error and an exit status.

A wrong command line is told from failures by the time: before the request is under way, everything that is refused was
given by the user.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import importlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, cast

import gevent

from geventnode import __version__, http
from geventnode.cli.endpoints import Sink, Unwritable, open_sink, open_source
from geventnode.errors import ParseError, reduce_exception
from geventnode.protocol import check_name

__all__ = ['run']

FAILURE, WRONG_COMMAND, REFUSED_BY_SERVER = 1, 2, 22

#: What ends the exchange, unless the process was started with the signal ignored (nohup, a shell's background).
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

FORM = 'application/x-www-form-urlencoded'

#: Fields that the request adds by itself, which have to be removed from it.
ADDED_BY_REQUEST = frozenset({'authorization', 'connection', 'content-length', 'transfer-encoding'})


class _GivenUp(Exception):
    """The end of it, with the exit status and the reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status

    def __reduce__(self) -> Any:
        return reduce_exception(self)


def run(options: argparse.Namespace) -> int:
    """Do what the command line says; return the exit status, or the negative number of the signal that shall end the
    process. May switch.

    :param options: ``url``, ``output``, ``request``, ``header``, ``data``, ``include``, ``timeout`` and ``fail`` of the
        command.
    """
    ended: list[int] = []
    worker = gevent.spawn(_attempt, options)

    def end(number: int) -> None:
        ended.append(number)
        worker.kill(block=False)

    with _signals_call(end):
        worker.join()
    if ended:
        return -ended[0]
    return cast(int, worker.value)


@contextlib.contextmanager
def _signals_call(handler: Callable[[int], None]) -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in ENDING}
    # a handler of Python's own would raise wherever the process happens to be, in the event loop too
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


def _attempt(options: argparse.Namespace) -> int:
    """Make the exchange and say what went wrong with it."""
    try:
        _exchange(options)
    except _GivenUp as given_up:
        _complain(str(given_up))
        return given_up.status
    except Unwritable as unwritable:
        if unwritable.error.errno == errno.EPIPE:
            return -signal.SIGPIPE
        _complain(str(unwritable))
    except Exception as error:
        _complain(_described(error))
    else:
        return 0
    return FAILURE


def _exchange(options: argparse.Namespace) -> None:
    with contextlib.ExitStack() as stack:
        body: Any = None
        if options.data is not None:
            body = os.fsencode(options.data[0])
            if body.startswith(b'@'):
                body = _opened('read', open_source, options.data[0][1:])
                stack.enter_context(contextlib.closing(body))
        sink: Sink = _opened('write', open_sink, options.output)
        stack.enter_context(contextlib.closing(sink))
        request = _request(options, body)
        # what is still being sent when the response is complete is not wanted any more
        stack.callback(request.destroy)
        with request as response:
            if response.upgrade:
                response.socket.destroy()
                raise _GivenUp(FAILURE, f'the server has left HTTP ({_status(response)})')
            if options.include:
                sink.write(_head(response))
            if options.fail and (response.status_code or 0) >= 400:
                raise _GivenUp(REFUSED_BY_SERVER, f'the server answered {_status(response)}')
            for chunk in stack.enter_context(_progress(options, request, response)):
                sink.write(chunk)
            if options.include:
                # where curl has them: directly behind the body
                sink.write(_lines(response.raw_trailers))
        sink.commit()


def _opened(verb: str, opening: Callable[[Any], Any], path: str | None) -> Any:
    try:
        return opening(path)
    except (OSError, ValueError) as error:
        # ValueError: a NUL character
        what = 'a standard stream' if path in (None, '-') else repr(path)
        raise _GivenUp(WRONG_COMMAND, f'cannot {verb} {what}: {_described(error)}') from error


# -- the request ------------------------------------------------------------------------------------------------------


def _request(options: argparse.Namespace, body: Any) -> http.ClientRequest:
    """Return the request, under way."""
    try:
        given, removed = _headers(options.header)
        names = {name.lower() for name, _ in given}
        automatic = {'User-Agent': f'geventnode/{__version__}', 'Accept': '*/*'}
        if body is not None:
            automatic['Content-Type'] = FORM
        headers = [(name, value) for name, value in automatic.items() if name.lower() not in names | removed] + given
        late = removed & ADDED_BY_REQUEST - names
        if late and 'expect' in names:
            # the head leaves before there is anything to remove from it
            raise _GivenUp(WRONG_COMMAND, f'{min(late)} cannot be removed beside Expect')
        request = _requester(options)(
            options.url,
            method=options.request or ('GET' if body is None else 'POST'),
            headers=headers,
            set_host='host' not in removed,
            body=None if late else body,
            agent=False,
            deadline=options.timeout,
        )
        for name in late:
            request.remove_header(name)
        if late or body is None:
            request.end(body)
    except ValueError as error:
        raise _GivenUp(WRONG_COMMAND, str(error)) from error
    return request


def _requester(options: argparse.Namespace) -> Callable[..., http.ClientRequest]:
    """Return the function that makes requests of the URL's scheme."""
    settings = {'ca': options.cacert, 'reject_unauthorized': not options.insecure}
    if options.url[:6].lower() == 'https:':
        https = importlib.import_module('geventnode.https')
        return partial(https.request, **settings)
    if options.cacert is not None or options.insecure:
        raise _GivenUp(WRONG_COMMAND, '--cacert and --insecure are for URLs that begin with https:')
    return http.request


def _headers(lines: list[str]) -> tuple[list[tuple[str, str]], set[str]]:
    """Return what the options ``-H`` ask for: fields, and the lower-cased names of those that are not to be sent."""
    given, removed = [], set()
    for text in lines:
        # the very bytes of the command line
        line = os.fsencode(text).decode('latin-1')
        name, colon, value = line.partition(':')
        value = value.strip(' \t')
        if not colon:
            name, semicolon, rest = line.partition(';')
            if not semicolon or rest:
                raise _GivenUp(WRONG_COMMAND, f"-H must be 'Name: value', 'Name:' or 'Name;', not {text!r}")
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
    """Yield the chunks of ``response``, which show a bar as they go by, if there is to be one."""
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
    """Return a progress bar; None without the library for it."""
    try:
        tqdm = importlib.import_module('tqdm').tqdm
    except ImportError:
        return None
    # neither its thread nor its lock between processes is any use for one bar
    bar: Any = type('Bar', (tqdm,), {'monitor_interval': 0})
    bar.set_lock(threading.RLock())
    return bar(
        total=None if length is None else int(length), unit='B', unit_scale=True, unit_divisor=1024, file=sys.stderr
    )


# -- what went wrong --------------------------------------------------------------------------------------------------


def _described(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, ParseError):
        return f'the response is not to be understood: {error}'
    return str(error) or type(error).__name__


def _complain(text: str) -> None:
    """Write one line to standard error, of characters that do nothing to a terminal."""
    line = ''.join(character if character.isprintable() else '?' for character in text)
    if sys.stderr is not None:
        # nobody may read it
        with contextlib.suppress(OSError):
            sys.stderr.write(f'geventnode: {line}\n')
            sys.stderr.flush()

"""A method that can block has "Blocks until ..." in its docstring, and every other one returns at once.

The first check reads the source and follows the calls of functions and methods by name. The second one calls every
method without these words, in states in which similar methods block: on streams without data or with a full queue, on
servers and agents with open exchanges. It fails at the first switch to another greenlet or to the hub.
"""

from __future__ import annotations

import ast
import contextlib
import gc
import inspect
import io
import re
import ssl
import textwrap
import types
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import gevent
import greenlet
import pytest
from gevent.event import Event
from zope.interface import Interface, implementer, providedBy
from zope.interface.interface import InterfaceClass, Method

from geventnode import http, net, stream
from geventnode.errors import GeventnodeError
from tests.conformance.clogged import fill
from tests.conformance.makers import READABLE_MAKERS, WRITABLE_MAKERS
from tests.conformance.writable import MANY, PIECE
from tests.test_contracts import CONTRACTS, ENTRIES, PROVIDERS, _offers

#: Functions of gevent that block, by name.
PRIMITIVES = {'idle', 'iwait', 'joinall', 'killall', 'sleep', 'wait'}
#: Methods of gevent's objects that block when they are called without arguments, or with these alone.
METHODS = {'acquire', 'get', 'join', 'kill', 'wait'}
LIMITS = {'timeout'}
#: Functions that never block although they call one that seems to, with the reason.
EXEMPT = {
    'geventnode.integrations.gunicorn.settings.uses_sendfile': 'the get() is that of a setting of gunicorn',
}
#: Mentions of a switch between greenlets.
SWITCHING = re.compile(
    r'\b(may|never|can|cannot|not)\s+switch(es)?\b|\bswitches\b(?! (to|the|protocols))', re.IGNORECASE
)


def is_documented(function: Any) -> bool:
    """Return whether the docstring of ``function`` has "blocks until"."""
    return 'blocks until' in ' '.join((inspect.getdoc(function) or '').split()).lower()


@pytest.mark.parametrize('module', ENTRIES)
def test_docstrings_do_not_mention_switches(module: str) -> None:
    """Other words than "Blocks until" for the same thing are not used."""
    texts = {name: inspect.getdoc(offered) or '' for name, offered in _offers(module)}
    assert [name for name, text in texts.items() if SWITCHING.search(text)] == []


@pytest.mark.parametrize('contract', CONTRACTS, ids=[contract.__name__ for contract in CONTRACTS])
def test_contracts_do_not_mention_switches(contract: InterfaceClass) -> None:
    described = {'': contract.__doc__, **{name: each.__doc__ for name, each in contract.namesAndDescriptions()}}
    assert [name for name, text in described.items() if SWITCHING.search(text or '')] == []


def test_a_mention_of_switches_is_found() -> None:
    assert SWITCHING.search('Wait for it. It can switch.')
    assert SWITCHING.search('It never\nswitches.')
    assert not SWITCHING.search('Send 101 Switching Protocols.')


# -- by the source ----------------------------------------------------------------------------------------------------


@cache
def _calls(function: types.FunctionType) -> list[ast.Call]:
    """Return the calls in ``function``, without those of the functions that it defines."""
    try:
        source = textwrap.dedent(inspect.getsource(function))
        tree = ast.parse(source).body[0]
    except (OSError, SyntaxError):
        return []
    if not isinstance(tree, ast.FunctionDef):
        return []
    found = []
    pending: list[ast.AST] = list(tree.body)
    while pending:
        node = pending.pop()
        if isinstance(node, (ast.FunctionDef, ast.Lambda, ast.ClassDef)):
            continue
        if isinstance(node, ast.Call):
            found.append(node)
        pending += ast.iter_child_nodes(node)
    return found


def _is_blocking(call: ast.Call) -> bool:
    """Return whether ``call`` is one of gevent's blocking operations, as far as its name shows."""
    called = call.func
    if not isinstance(called, ast.Attribute):
        return False
    if isinstance(called.value, ast.Name) and called.value.id == 'gevent':
        return called.attr in PRIMITIVES
    if called.attr == 'switch':
        return 'hub' in ast.unparse(called.value).lower()
    return called.attr in METHODS and not call.args and {each.arg for each in call.keywords} <= LIMITS


def _callee(call: ast.Call, function: types.FunctionType, owner: type | None) -> tuple[Any, type | None]:
    """Return the called function of this package, and its class if it is a method."""
    called = call.func
    if isinstance(called, ast.Name):
        found = function.__globals__.get(called.id)
        return (found, None) if inspect.isfunction(found) else (None, None)
    if owner is None or not isinstance(called, ast.Attribute):
        return None, None
    order = owner.__mro__
    if isinstance(called.value, ast.Name) and called.value.id == 'self':
        pass
    elif isinstance(called.value, ast.Call) and ast.unparse(called.value) == 'super()':
        definer = next((each for each in order if vars(each).get(function.__name__) is function), owner)
        order = order[order.index(definer) + 1 :]
    else:
        return None, None
    found = next((vars(each)[called.attr] for each in order if called.attr in vars(each)), None)
    return (found, owner) if inspect.isfunction(found) else (None, None)


def why_it_blocks(function: Any, owner: type | None = None, seen: frozenset[Any] = frozenset()) -> str | None:
    """Return the call that makes ``function`` block, or None."""
    if (
        not inspect.isfunction(function)
        or function in seen
        or not function.__module__.startswith(('geventnode', 'tests'))
    ):
        return None
    for call in _calls(function):
        if _is_blocking(call):
            return f'{function.__qualname__} calls {ast.unparse(call)}'
        callee, callee_owner = _callee(call, function, owner)
        if callee is not None:
            if f'{callee.__module__}.{callee.__qualname__}' in EXEMPT:
                continue
            reason = why_it_blocks(callee, callee_owner, seen | {function})
            if reason is not None:
                return f'{function.__qualname__} calls {reason}' if callee.__qualname__ not in reason[:80] else reason
    return None


def _classes(module: str) -> Iterator[tuple[str, Any, type | None]]:
    """Yield the full name, the function and the class of every function and method that ``module`` offers."""
    owner: type | None = None
    for name, offered in _offers(module):
        if isinstance(offered, type):
            owner = offered
        elif inspect.isfunction(offered):
            yield name, offered, owner if '.' in offered.__qualname__ else None


def complaints(functions: Iterator[tuple[str, Any, type | None]]) -> list[str]:
    """Return a line for every function that can block without documentation of it."""
    return sorted(
        {
            f'{name}: {reason}'
            for name, function, owner in functions
            if name not in EXEMPT
            and not is_documented(function)
            and (reason := why_it_blocks(function, owner)) is not None
        }
    )


@pytest.mark.parametrize('module', ENTRIES)
def test_blocking_functions_are_documented(module: str) -> None:
    assert complaints(_classes(module)) == []


class Example(stream.Writable):
    """Methods for the tests of the check itself."""

    def wait(self) -> None:
        """Wait."""
        gevent.sleep(0)

    def documented(self) -> None:
        """Blocks until the loop has run."""
        self.wait()

    def indirect(self) -> None:
        """Wait."""
        self._wait()

    def _wait(self) -> None:
        _wait_for_loop()

    def inherited(self) -> None:
        """Wait."""
        super()._wait_for_drain()

    def in_the_background(self) -> None:
        """Start a greenlet."""
        gevent.spawn(lambda: gevent.sleep(0))

    def reads(self) -> None:
        """Look up values."""
        print({}.get('key'), ', '.join(['a']))  # noqa: T201 - never called


def _wait_for_loop() -> None:
    gevent.get_hub().switch()


def test_an_undocumented_function_that_blocks_is_found() -> None:
    names = 'wait', 'documented', 'indirect', 'inherited', 'in_the_background', 'reads'
    found = complaints((name, vars(Example)[name], Example) for name in names)
    assert [each.partition(':')[0] for each in found] == ['indirect', 'inherited', 'wait']


# -- by calling them --------------------------------------------------------------------------------------------------


class _HeadOnly:
    """A response to HEAD: a broadcast ends it at once, and begins no greenlet."""

    destroyed = False
    headers_sent = True
    writable_ended = False
    request = types.SimpleNamespace(aborted=False, method='HEAD')

    def end(self) -> None:
        """End the response."""


#: Arguments for the methods that take some, by name, after that of a class if others have a method of the same name; a
#: function makes them anew for each call.
ARGUMENTS: dict[str, Callable[[], tuple[Any, ...]]] = {
    'EventBroadcast.add': lambda: (_HeadOnly(),),
    'EventBroadcast.end': tuple,
    'EventBroadcast.send': lambda: ('event',),
    'add_context': lambda: ('example.org', ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)),
    'add_listener': lambda: ('custom', print),
    'add_trailers': lambda: ({'X': 'y'},),
    'also_listen': lambda: ({'fd': -1},),
    'append_header': lambda: ('X', 'y'),
    'connect': lambda: (9, '127.0.0.1'),
    'create_connection': lambda: ({'host': '127.0.0.1', 'port': 9},),
    'emit': lambda: ('custom',),
    'end': lambda: (b'x',),
    'exchange_began': lambda: (None,),
    'request_began': lambda: (None,),
    'request_ended': lambda: (None, None),
    'exchange_ended': lambda: (None, 200),
    'from_iterable': lambda: ([b'x'],),
    'get_header': lambda: ('X',),
    'get_name': lambda: ({'host': 'example.org', 'port': 80},),
    'has_header': lambda: ('X',),
    'listener_count': lambda: ('custom',),
    'listeners': lambda: ('custom',),
    'on': lambda: ('custom', print),
    'once': lambda: ('custom', print),
    'pipe': lambda: (stream.Writable(lambda data: None),),
    'prepend_listener': lambda: ('custom', print),
    'push': lambda: (b'x',),
    'readinto': lambda: (bytearray(4),),
    'remove_header': lambda: ('X',),
    'remove_listener': lambda: ('custom', print),
    'reserve': lambda: ('http://127.0.0.1:9/',),
    'send': lambda: (PIECE,),
    'send_error': lambda: (net.Socket(), 503),
    'send_file': lambda: (io.BytesIO(PIECE),),
    'send_nowait': lambda: (b'x',),
    'set_encoding': lambda: ('utf-8',),
    'set_header': lambda: ('X', 'y'),
    'set_headers': lambda: ({'X': 'y'},),
    'set_max_listeners': lambda: (5,),
    'set_timeout': lambda: (10.0,),
    'unshift': lambda: (b'x',),
    'write': lambda: (b'x',),
    'write_early_hints': lambda: ({'link': '</style.css>; rel=preload'},),
    'write_head': lambda: (200,),
    'write_information': lambda: (199,),
}


@contextlib.contextmanager
def _empty(kind: str) -> Iterator[Any]:
    """Yield a readable that waits for data."""
    with READABLE_MAKERS[kind](len(PIECE)) as source:
        yield source.stream


@contextlib.contextmanager
def _full(kind: str) -> Iterator[Any]:
    """Yield a writable with a full queue."""
    with WRITABLE_MAKERS[kind](MANY * len(PIECE)) as sink:
        fill(sink.stream)
        yield sink.stream


@contextlib.contextmanager
def _corked(make: Callable[..., stream.Writable]) -> Iterator[stream.Writable]:
    """Yield a corked writable with one chunk in its queue and a function that blocks."""
    opened = Event()
    writable = make(write=lambda data: opened.wait())
    writable.cork()
    writable.write(PIECE)
    yield writable
    writable.destroy()
    opened.set()


@contextlib.contextmanager
def _busy_server() -> Iterator[http.Server]:
    """Yield a server with a blocked request listener."""
    done = Event()
    started = Event()

    def listener(request: http.IncomingMessage, response: http.ServerResponse) -> None:
        started.set()
        done.wait()
        response.end()

    server = http.create_server(listener).listen(0, '127.0.0.1')
    client = net.connect(server.address()['port'], '127.0.0.1')
    client.write(b'GET / HTTP/1.1\r\nHost: x\r\n\r\n')
    started.wait()
    try:
        yield server
    finally:
        done.set()
        client.destroy()
        if server.listening:
            server.close()
        server.close_all_connections()


@contextlib.contextmanager
def _busy_agent() -> Iterator[http.Agent]:
    """Yield an agent with one connection that waits for a response, and one queued request."""
    with net.Server(lambda socket: socket.resume()).listen(0, '127.0.0.1') as server:
        port = server.address()['port']
        with http.Agent(max_total_sockets=1) as agent:
            requests = [http.get(f'http://127.0.0.1:{port}/', agent=agent) for _ in range(2)]
            for request in requests:
                request.on('error', lambda error: None)
            gevent.sleep(0.005)
            yield agent
            for request in requests:
                request.destroy()


#: Context managers of objects in states in which some methods block, by name.
SITUATIONS: dict[str, Callable[[], contextlib.AbstractContextManager[Any]]] = {
    **{f'empty-{kind}': partial(_empty, kind) for kind in READABLE_MAKERS},
    **{f'full-{kind}': partial(_full, kind) for kind in WRITABLE_MAKERS if kind.endswith('clogged')},
    **{f'corked-{make.__name__}': partial(_corked, make) for make in (stream.Writable, stream.Duplex)},
    **{f'new-{contract.__name__}-{number}': make for number, (contract, make) in enumerate(PROVIDERS)},
    'busy-server': _busy_server,
    'busy-agent': _busy_agent,
}


def _switches(function: Callable[..., object], *args: Any) -> list[str]:
    """Call ``function`` in a greenlet of its own for a moment; return the greenlets to which it switched."""
    targets: list[str] = []

    def call() -> None:
        current = greenlet.getcurrent()

        def trace(event: str, greenlets: tuple[Any, Any]) -> None:
            origin, target = greenlets
            if origin is current and event in ('switch', 'throw'):
                targets.append(repr(target))

        # a collection may end suspended greenlets, which is a switch that is not the function's own
        gc.disable()
        before = greenlet.settrace(trace)
        try:
            with gevent.Timeout(0.01, False):
                function(*args)
        except (GeventnodeError, OSError, RuntimeError):
            # the call is not allowed in this state
            pass
        finally:
            greenlet.settrace(before)
            gc.enable()

    gevent.spawn(call).get()
    return targets


def _nonblocking_methods(thing: Any) -> list[str]:
    """Return the methods in the contracts of ``thing`` that are not documented to block."""
    return sorted(
        {
            name
            for contract in providedBy(thing)
            for name, described in contract.namesAndDescriptions(all=True)
            if isinstance(described, Method) and not name.startswith('_') and not is_documented(getattr(thing, name))
        }
    )


def blocking_methods(make: Callable[[], contextlib.AbstractContextManager[Any]]) -> list[str]:
    """Call each method of an object that is not documented to block; return those that switch."""
    with make() as thing:
        names = _nonblocking_methods(thing)
    found = []
    for name in names:
        with make() as thing:
            arguments = ARGUMENTS.get(f'{type(thing).__name__}.{name}') or ARGUMENTS.get(name, tuple)
            targets = _switches(getattr(thing, name), *arguments())
            if isinstance(thing, net.Server) and thing.listening:
                thing.close()
            if targets:
                found.append(f'{type(thing).__name__}.{name} switched to {", ".join(targets)}')
    return found


@pytest.mark.parametrize('situation', SITUATIONS)
def test_other_methods_return_at_once(situation: str) -> None:
    assert blocking_methods(SITUATIONS[situation]) == []


class IExample(Interface):
    """A contract for the test of the check itself."""

    def quick() -> None:
        """Do nothing."""

    def slow() -> None:
        """Do nothing."""

    def documented() -> None:
        """Do nothing."""


@implementer(IExample)
class Sleeper:
    """Methods of which two switch to the hub."""

    def quick(self) -> None:
        """Return at once."""

    def slow(self) -> None:
        """Return."""
        gevent.sleep(0)

    def documented(self) -> None:
        """Blocks until the loop has run."""
        gevent.sleep(0)


def test_an_undocumented_method_that_blocks_is_found() -> None:
    (found,) = blocking_methods(lambda: contextlib.nullcontext(Sleeper()))
    assert found.startswith('Sleeper.slow switched to <Hub')

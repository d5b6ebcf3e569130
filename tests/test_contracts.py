"""Every public class keeps its contract, and every contract has a class: live objects are checked.

``zope.interface.verify`` compares no argument names and overlooks keyword-only arguments, so signatures are compared
here as well: names, kinds and defaults. The conformance suites test the behaviour.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import types
from collections.abc import Callable, Iterator
from typing import Any

import gevent.socket
import pytest
from gevent.event import AsyncResult, Event
from zope.interface import Interface, implementer, providedBy
from zope.interface.interface import InterfaceClass, Method
from zope.interface.verify import verifyObject

from geventnode import events, http, https, interfaces, net, stream, tls, websocket
from geventnode.http.server import server as http_server
from geventnode.options import Option
from geventnode.testing import websocket_pair
from geventnode.tls.contexts import SERVER_OPTIONS
from tests.certificates import tls_certificates

#: The modules with the public classes.
PUBLIC = [
    'geventnode.events',
    'geventnode.stream',
    'geventnode.net',
    'geventnode.tls',
    'geventnode.http',
    'geventnode.https',
    'geventnode.websocket',
]


#: Keyword-only arguments that only the class has, by class and method.
KEYWORDS: dict[tuple[type, str], set[str]] = {
    (net.Server, 'listen'): {'handle', 'path', 'reuse_port'},
    (tls.Server, 'listen'): {'handle', 'path', 'reuse_port'},
    (http.Server, 'listen'): {'handle', 'path', 'reuse_port'},
    (https.Server, 'listen'): {'handle', 'path', 'reuse_port'},
    (http.EventBroadcast, 'send'): {'event', 'event_id', 'retry'},
    (net.Socket, 'connect'): {'family', 'local_address', 'local_port', 'lookup'},
    (tls.TLSSocket, 'connect'): {'family', 'local_address', 'local_port', 'lookup'},
}


@contextlib.contextmanager
def _destroyed(made: Any) -> Iterator[Any]:
    yield made
    made.destroy()


@contextlib.contextmanager
def _exchange() -> Iterator[tuple[http.IncomingMessage, http.ServerResponse]]:
    """Yield a request and its response while the listener runs."""
    arrived: AsyncResult = AsyncResult()
    done = Event()

    def listener(request: http.IncomingMessage, response: http.ServerResponse) -> None:
        arrived.set((request, response))
        done.wait()
        response.end()

    with http.create_server(listener).listen(0, '127.0.0.1') as server:
        client = gevent.socket.create_connection(('127.0.0.1', server.address()['port']))
        with contextlib.closing(client):
            client.sendall(b'GET / HTTP/1.1\r\nHost: example\r\n\r\n')
            try:
                yield arrived.get()
            finally:
                done.set()


@contextlib.contextmanager
def _request() -> Iterator[http.IncomingMessage]:
    with _exchange() as (request, _):
        yield request


@contextlib.contextmanager
def _response() -> Iterator[http.ServerResponse]:
    with _exchange() as (_, response):
        yield response


@contextlib.contextmanager
def _client_request() -> Iterator[http.ClientRequest]:
    with http.create_server(lambda request, response: response.end()).listen(0, '127.0.0.1') as server:
        request = http.get(port=server.address()['port'])
        request.get_response()
        yield request


@contextlib.contextmanager
def _websocket() -> Iterator[websocket.WebSocket]:
    with websocket_pair() as (_, server_side):
        yield server_side


PROVIDERS: list[tuple[InterfaceClass, Callable[[], contextlib.AbstractContextManager[Any]]]] = [
    (interfaces.IEventEmitter, lambda: contextlib.nullcontext(events.EventEmitter())),
    (interfaces.IReadable, lambda: _destroyed(stream.Readable())),
    (interfaces.IPushReadable, lambda: _destroyed(stream.Readable())),
    (interfaces.IWritable, lambda: _destroyed(stream.Writable(lambda data: None))),
    (interfaces.IDuplex, lambda: _destroyed(stream.Duplex())),
    (interfaces.ISocket, lambda: _destroyed(net.Socket())),
    (interfaces.IServer, lambda: contextlib.nullcontext(net.Server())),
    (interfaces.IHTTPServer, lambda: contextlib.nullcontext(http.Server())),
    (interfaces.ITLSSocket, lambda: _destroyed(tls.TLSSocket(tls_certificates().client_context()))),
    (interfaces.ITLSServer, lambda: contextlib.nullcontext(tls.Server(certfile=tls_certificates().server))),
    (interfaces.IHTTPServer, lambda: contextlib.nullcontext(https.Server(certfile=tls_certificates().server))),
    (interfaces.ITLSServer, lambda: contextlib.nullcontext(https.Server(certfile=tls_certificates().server))),
    (interfaces.IIncomingMessage, _request),
    (interfaces.IOutgoingMessage, lambda: _destroyed(http.OutgoingMessage(net.Socket()))),
    (interfaces.IServerResponse, _response),
    (interfaces.IEventBroadcast, lambda: contextlib.nullcontext(http.EventBroadcast())),
    (interfaces.IExchangeObserver, lambda: contextlib.nullcontext(http.ExchangeObserver())),
    (interfaces.IRequestObserver, lambda: contextlib.nullcontext(http.RequestObserver())),
    (interfaces.IClientRequest, _client_request),
    (interfaces.IAgent, lambda: _destroyed(http.Agent())),
    (interfaces.IAgent, lambda: _destroyed(https.Agent())),
    (interfaces.IWebSocket, _websocket),
]
CONTRACTS = [getattr(interfaces, name) for name in interfaces.__all__]


def _signature(method: Method) -> list[tuple[str, Any, Any]]:
    """Return names, kinds and defaults of a contract's method."""
    information = method.getSignatureInfo()
    defaults = information['optional']
    found = [
        (name, inspect.Parameter.POSITIONAL_OR_KEYWORD, defaults.get(name, inspect.Parameter.empty))
        for name in information['positional']
    ]
    for kind, name in (
        (inspect.Parameter.VAR_POSITIONAL, information['varargs']),
        (inspect.Parameter.VAR_KEYWORD, information['kwargs']),
    ):
        if name:
            found.append((name, kind, inspect.Parameter.empty))
    return found


def _signature_of(provider: Any, name: str) -> list[tuple[str, Any, Any]]:
    """Return names, kinds and defaults of a method, without its own keywords."""
    own = KEYWORDS.get((type(provider), name), set())
    return [
        (each.name, each.kind, each.default)
        for each in inspect.signature(getattr(provider, name)).parameters.values()
        if each.kind is not inspect.Parameter.KEYWORD_ONLY or each.name not in own
    ]


def _mismatches(contract: InterfaceClass, provider: Any) -> list[str]:
    """Return a line for every method of ``provider`` with another signature than in ``contract``."""
    wrong = []
    for name, described in contract.namesAndDescriptions(all=True):
        if isinstance(described, Method):
            wanted, found = _signature(described), _signature_of(provider, name)
            if wanted != found:
                wrong.append(
                    f'{type(provider).__name__}.{name}{inspect.signature(getattr(provider, name))} should be '
                    f'{described.getSignatureString()}'
                )
    return wrong


def _beyond(provider: Any) -> set[str]:
    """Return the public attributes of ``provider`` that are not in its contracts."""
    promised = {name for contract in providedBy(provider) for name in contract.names(all=True)}
    return {name for name in dir(provider) if not name.startswith('_') and hasattr(provider, name)} - promised


def _public_classes() -> list[type]:
    """Return the public classes; exceptions have no contract."""
    found = {}
    for name in PUBLIC:
        module = importlib.import_module(name)
        for each in module.__all__:
            offered = getattr(module, each)
            # In Python 3.10, a parametrized alias is an instance of type.
            if (
                isinstance(offered, type)
                and not isinstance(offered, types.GenericAlias)
                and not issubclass(offered, BaseException)
            ):
                found[offered] = None
    return list(found)


@pytest.mark.parametrize(('contract', 'make'), PROVIDERS, ids=[contract.__name__ for contract, _ in PROVIDERS])
def test_a_class_keeps_its_contract(contract: InterfaceClass, make: Callable[[], Any]) -> None:
    with make() as provider:
        verifyObject(contract, provider)
        assert _mismatches(contract, provider) == []
        assert sorted(_beyond(provider)) == []


def test_every_contract_has_a_provider() -> None:
    listed = [contract for contract, _ in PROVIDERS]
    assert [each.__name__ for each in CONTRACTS if each not in listed] == []


def test_every_public_class_is_listed() -> None:
    listed = set()
    for contract, make in PROVIDERS:
        with make() as provider:
            listed.add(type(provider))
            assert contract in providedBy(provider)
    assert [each.__name__ for each in _public_classes() if each not in listed] == []


@pytest.mark.parametrize(('contract', 'make'), PROVIDERS, ids=[contract.__name__ for contract, _ in PROVIDERS])
def test_repr_has_the_state(contract: InterfaceClass, make: Callable[[], Any]) -> None:
    """Observers have no state, and ``destroy()`` does not change a completed exchange of a client."""
    with make() as provider:
        if contract not in (interfaces.IExchangeObserver, interfaces.IRequestObserver):
            before = repr(provider)
            assert before.startswith(f'<{type(provider).__name__} ')
            assert ' at 0x' not in before
            if hasattr(provider, 'destroyed') and contract is not interfaces.IClientRequest:
                provider.destroy()
                assert repr(provider) != before


class IExample(Interface):
    """A contract for the tests of the checks themselves."""

    def method(first: int, second: int = 2, *rest: int, **options: int) -> None:
        """Do nothing."""


@pytest.mark.parametrize(
    'other',
    [
        lambda self, other, second=2, *rest, **options: None,
        lambda self, first, second=3, *rest, **options: None,
        lambda self, first, second, *rest, **options: None,
        lambda self, first, second=2, *rest, more=0, **options: None,
        lambda self, first, second=2, *rest: None,
        lambda self, *rest, **options: None,
        lambda self, first, /, second=2, *rest, **options: None,
    ],
)
def test_a_wrong_signature_is_found(other: Callable[..., None]) -> None:
    provider = implementer(IExample)(type('Example', (), {'method': other}))()
    assert len(_mismatches(IExample, provider)) == 1


def test_a_public_name_without_contract_is_found() -> None:
    @implementer(IExample)
    class Example:
        def method(self, first: int, second: int = 2, *rest: int, **options: int) -> None:
            pass

        def other(self) -> None:
            pass

    assert _mismatches(IExample, Example()) == []
    assert _beyond(Example()) == {'other'}


# -- explanations at the method ---------------------------------------------------------------------------------------

#: The modules with names for users.
ENTRIES = [
    *PUBLIC,
    'geventnode.errors',
    'geventnode.integrations.gunicorn',
    'geventnode.integrations.prometheus',
    'geventnode.integrations.requests',
    'geventnode.integrations.wsgi',
    'geventnode.monitor',
    'geventnode.testing',
]
#: The options of a TLS server that are not attributes.
TLS_OPTIONS = {*SERVER_OPTIONS, 'sni_callback', 'sni_contexts'}
#: Methods and functions that take ``*args: Any`` or ``**options: Any``, with the reason.
VARIADIC = {
    'geventnode.events.EventEmitter.emit': 'the arguments depend on the event',
    'geventnode.integrations.gunicorn.worker.run': 'the settings of gunicorn',
    'geventnode.integrations.requests.adapter.AgentAdapter.init_poolmanager': 'the signature of requests',
    'geventnode.integrations.requests.adapter.AgentAdapter.proxy_manager_for': 'the signature of requests',
    'geventnode.tls.server.TLSServerMixin.add_context': 'the options of a context, which tls.create_server names',
    'geventnode.stream.pipeline.pipeline': 'any number of streams of any kind',
    'geventnode.testing.sites.serving': 'the options of http.create_server and https.create_server',
    'geventnode.testing.websockets.websocket_pair': 'the options of websocket.accept',
    'geventnode.testing.sites.serving_in_memory': 'the options of http.create_server and https.create_server',
}


def _offers(module: str) -> Iterator[tuple[str, Any]]:
    """Yield the functions, classes, methods and properties that ``module`` offers, with their full names."""
    loaded = importlib.import_module(module)
    for name in loaded.__all__:
        offered = getattr(loaded, name)
        if inspect.isfunction(offered):
            yield f'{offered.__module__}.{offered.__qualname__}', offered
        elif isinstance(offered, type) and not isinstance(offered, types.GenericAlias):
            yield f'{offered.__module__}.{offered.__qualname__}', offered
            yield from _members(offered)


def _members(offered: type) -> Iterator[tuple[str, Any]]:
    """Yield the public methods and properties of a class that are defined in this project."""
    for name in dir(offered):
        definer = next((each for each in offered.__mro__ if name in vars(each)), object)
        project = definer.__module__.split('.')[0] in ('geventnode', __name__.split('.')[0])
        # a name that only raises, to correct a misspelling, is not offered
        bound = hasattr(type(vars(definer).get(name)), '__get__')
        if project and not name.startswith('_') and bound and hasattr(offered, name):
            yield f'{definer.__module__}.{definer.__qualname__}.{name}', getattr(offered, name)


def _undocumented(offers: Iterator[tuple[str, Any]]) -> set[str]:
    """Return the names of the objects without a docstring, not even an inherited one."""
    return {name for name, offered in offers if not inspect.getdoc(offered)}


def _unspecific(offers: Iterator[tuple[str, Any]]) -> set[str]:
    """Return the names of functions that take arbitrary arguments of type Any."""
    variable = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD
    return {
        name
        for name, offered in offers
        if inspect.isroutine(offered)
        for each in inspect.signature(offered).parameters.values()
        if each.kind in variable and each.annotation in ('Any', Any, inspect.Parameter.empty)
    }


@pytest.mark.parametrize('module', ENTRIES)
def test_public_names_have_docstrings(module: str) -> None:
    assert sorted(_undocumented(_offers(module))) == []


@pytest.mark.parametrize('module', ENTRIES)
def test_public_functions_spell_out_their_arguments(module: str) -> None:
    assert sorted(_unspecific(_offers(module)) - set(VARIADIC)) == []


@pytest.mark.parametrize(
    ('kind', 'typed', 'others'),
    [
        (net.Server, net.server.ServerOptions, {'allow_half_open'}),
        (http.Server, http_server.ServerOptions, set()),
        (tls.Server, tls.server.ServerOptions, {'allow_half_open', *TLS_OPTIONS}),
        (https.Server, https._ServerOptions, TLS_OPTIONS),
    ],
    ids=['net', 'http', 'tls', 'https'],
)
def test_typed_options_are_those_of_the_server(kind: type, typed: Any, others: set[str]) -> None:
    options = {name for each in kind.__mro__ for name, value in vars(each).items() if isinstance(value, Option)}
    assert set(typed.__annotations__) == options | set(kind._plain_options) | others  # type: ignore[attr-defined]


def test_every_variadic_function_exists() -> None:
    found = {name for module in ENTRIES for name in _unspecific(_offers(module))}
    assert sorted(set(VARIADIC) - found) == []


def test_a_missing_docstring_is_found() -> None:
    class Documented:
        """Have a docstring."""

        def method(self) -> None:
            """Do nothing."""

        @property
        def value(self) -> int:
            """The value."""
            return 1

    class Overriding(Documented):
        """Inherit two docstrings."""

        def method(self) -> None:
            pass

        @property
        def value(self) -> int:
            return 2

        @classmethod
        def make(cls) -> None:
            pass

        @property
        def other(self) -> int:
            return 3

        def _internal(self) -> None:
            pass

    # the docstring of a class in a function is inherited only when that class can be found by name
    names = {name.rpartition('.')[2] for name in _undocumented(_members(Overriding))}
    assert names >= {'make', 'other'}
    assert '_internal' not in names
    assert _undocumented(_members(Documented)) == set()


@pytest.mark.parametrize(
    ('function', 'complaint'),
    [
        (lambda first, *rest, **options: None, True),
        (lambda **options: None, True),
        (lambda first, second=2: None, False),
    ],
)
def test_arbitrary_arguments_are_found(function: Callable[..., None], complaint: bool) -> None:
    assert bool(_unspecific(iter([('function', function)]))) is complaint

"""Checks of a server's listeners and of the values they return.

A listener responds by calling methods of the response, now or later. A coroutine or generator function would never
respond, because no caller awaits or iterates its result: it is refused when it is added. A returned value that was
meant as a response is reported when the listener has returned.
"""

from __future__ import annotations

import inspect
from types import AsyncGeneratorType, GeneratorType
from typing import Any

from geventnode.errors import reduce_exception

__all__ = [
    'ListenerReturned',
    'asgi_problem',
    'check_listener',
    'check_returned',
    'deferred_kind',
    'has_wsgi_signature',
    'listener_name',
]

#: Types of values that are meant as a response, besides lists, tuples and awaitables.
_RESPONSE_TYPES = (str, bytes, bytearray, memoryview, dict, GeneratorType, AsyncGeneratorType)

#: Types of the first item in such a list or tuple. Lambdas that combine several calls return tuples of other types.
_ITEM_TYPES = (str, bytes, bytearray, int, float, dict, list, tuple)

#: The events with a request and a response, which a listener has to end.
_REQUEST_EVENTS = ('request', 'checkContinue', 'checkExpectation')


class ListenerReturned(TypeError):
    """A listener returned a response instead of sending it."""

    def __init__(self, listener: Any, value: Any) -> None:
        super().__init__(
            f"the 'request' listener {listener_name(listener)} returned {type(value).__name__} without sending a "
            'response; the returned value is not sent: call response.end(...)'
        )

    def __reduce__(self) -> Any:
        return reduce_exception(self)


def check_listener(event: str, listener: Any) -> None:
    """Raise ``TypeError`` for a callable that cannot respond."""
    if event in _REQUEST_EVENTS and has_wsgi_signature(listener):
        raise TypeError(
            f'{listener_name(listener)} is a WSGI application, by the names of its parameters; use '
            'create_server(wsgi(app)), with wsgi from geventnode.integrations.wsgi'
        )
    problem = asgi_problem(listener) if event in _REQUEST_EVENTS else None
    if problem is not None:
        raise TypeError(f'{listener_name(listener)} is {problem}')
    kind = deferred_kind(listener)
    if kind is not None:
        raise TypeError(
            f'a listener for {event!r} must be a plain function, and {listener_name(listener)} is {kind}, which '
            'would never run; write def without await or yield, and block as gevent does'
        )


def check_returned(listener: Any, value: Any) -> None:
    """Raise :class:`ListenerReturned` if ``value`` was meant as a response."""
    if isinstance(value, (list, tuple)):
        meant = not value or isinstance(value[0], _ITEM_TYPES)
    else:
        meant = isinstance(value, _RESPONSE_TYPES) or inspect.isawaitable(value)
    if meant:
        if inspect.iscoroutine(value):
            # otherwise Python would warn as well that it was never awaited
            value.close()
        raise ListenerReturned(listener, value)


def has_wsgi_signature(target: Any) -> bool | None:
    """Return whether ``target`` is a WSGI application by its parameter names.

    False: they are those of a listener. None: they are neither.
    """
    try:
        parameters = [
            each
            for each in inspect.signature(target).parameters.values()
            if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)
        ]
    except (TypeError, ValueError):
        return None
    if len(parameters) < 2:
        return None
    first, second = parameters[0].name.lstrip('_'), parameters[1].name.lstrip('_')
    if first in ('environ', 'env') or second.startswith('start'):
        return True
    return False if first.startswith('req') or second.startswith('res') else None


def asgi_problem(target: Any) -> str | None:
    """Return the problem with an ASGI application (FastAPI, Starlette, ...).

    None for anything else. The first parameter of such an application is ``scope``, or it is a coroutine function with
    three parameters.
    """
    try:
        parameters = list(inspect.signature(target).parameters.values())
    except (TypeError, ValueError):
        return None
    required = [
        each
        for each in parameters
        if each.default is each.empty and each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)
    ]
    if len(required) != 3 or not (required[0].name == 'scope' or deferred_kind(target) == 'async def'):
        return None
    return (
        'an ASGI application, which needs an asyncio event loop; run it with an ASGI server, such as uvicorn or '
        'hypercorn. geventnode serves WSGI applications and request listeners'
    )


def listener_name(listener: Any) -> str:
    """Return the name of ``listener`` for messages."""
    name = getattr(listener, '__qualname__', None)
    return repr(listener) if name is None else f'{name}()'


def deferred_kind(listener: Any) -> str | None:
    """Return the kind of a function that a call would not run."""
    for function in (listener, type(listener).__call__):
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            return 'async def'
        if inspect.isgeneratorfunction(function):
            return 'a generator function'
    return None

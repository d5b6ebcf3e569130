"""What can be a listener of a server, and what one returns.

A listener answers by calling the response, now or later. What would never answer, because nobody awaits a coroutine or
iterates over a generator here, is refused when it is added; a listener that returns what was meant as an answer is told
of when it has.
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

#: Types of what is meant to be an answer, beside lists, tuples, and what can be awaited.
_RESPONSE_TYPES = (str, bytes, bytearray, memoryview, dict, GeneratorType, AsyncGeneratorType)

#: What such a list or tuple begins with: other ones come from expressions that do several things, as lambdas have them.
_ITEM_TYPES = (str, bytes, bytearray, int, float, dict, list, tuple)

#: The events whose listeners are called with a request and a response, to answer it.
_REQUEST_EVENTS = ('request', 'checkContinue', 'checkExpectation')


class ListenerReturned(TypeError):
    """A listener has returned an answer in place of sending it."""

    def __init__(self, listener: Any, value: Any) -> None:
        super().__init__(
            f"the 'request' listener {listener_name(listener)} has returned {type(value).__name__}, and has not "
            'answered: what it returns goes nowhere, call response.end(...)'
        )

    def __reduce__(self) -> Any:
        return reduce_exception(self)


def check_listener(event: str, listener: Any) -> None:
    """Raise ``TypeError`` for what can be called and would never answer, or could not."""
    if event in _REQUEST_EVENTS and has_wsgi_signature(listener):
        raise TypeError(
            f'{listener_name(listener)} is a WSGI application, by the names of its parameters: '
            'create_server(wsgi(app)), with wsgi from geventnode.integrations.wsgi'
        )
    problem = asgi_problem(listener) if event in _REQUEST_EVENTS else None
    if problem is not None:
        raise TypeError(f'{listener_name(listener)} is {problem}')
    kind = deferred_kind(listener)
    if kind is not None:
        raise TypeError(
            f'a listener for {event!r} must be a plain function, and {listener_name(listener)} is {kind}, which '
            'would never run: write def without await or yield, and wait by calling, as gevent does'
        )


def check_returned(listener: Any, value: Any) -> None:
    """Raise :class:`ListenerReturned` if ``value``, which ``listener`` has returned, was meant to be an answer."""
    if isinstance(value, (list, tuple)):
        meant = not value or isinstance(value[0], _ITEM_TYPES)
    else:
        meant = isinstance(value, _RESPONSE_TYPES) or inspect.isawaitable(value)
    if meant:
        if inspect.iscoroutine(value):
            # or Python would complain a second time, about the wrong thing
            value.close()
        raise ListenerReturned(listener, value)


def has_wsgi_signature(target: Any) -> bool | None:
    """Return whether the names of the parameters of ``target`` are those of a WSGI application (True) or of a listener
    (False); None when they say neither."""
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
    """Return the complaint about an ASGI application (FastAPI, Starlette, ...), None for anything else.

    Its first parameter is called ``scope``, or it is a coroutine function with three parameters.
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
        'an ASGI application, which needs an event loop of asyncio: run it with an ASGI server, such as uvicorn or '
        'hypercorn; WSGI applications and request listeners are served here'
    )


def listener_name(listener: Any) -> str:
    """Return what ``listener`` is called in messages."""
    name = getattr(listener, '__qualname__', None)
    return repr(listener) if name is None else f'{name}()'


def deferred_kind(listener: Any) -> str | None:
    """Return the kind of function that ``listener`` is if a call of it runs nothing, or None."""
    for function in (listener, type(listener).__call__):
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            return 'async def'
        if inspect.isgeneratorfunction(function):
            return 'a generator function'
    return None

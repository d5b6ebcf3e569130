"""What can be a listener of a server, and what one returns.

A listener answers by calling the response, now or later. What would never answer, because nobody awaits a coroutine or
iterates over a generator here, is refused when it is added; a listener that returns what was meant as an answer is told
of when it has.
"""
from __future__ import annotations

import inspect
from types import AsyncGeneratorType, GeneratorType
from typing import Any

__all__ = ['ListenerReturned', 'called', 'check_listener', 'check_returned']

#: Types of what is meant to be an answer, beside lists, tuples, and what can be awaited.
_ANSWERS = (str, bytes, bytearray, memoryview, dict, GeneratorType, AsyncGeneratorType)

#: What such a list or tuple begins with: other ones come from expressions that do several things, as lambdas have them.
_ITEMS = (str, bytes, bytearray, int, float, dict, list, tuple)


class ListenerReturned(TypeError):
    """A listener has returned an answer in place of sending it."""

    def __init__(self, listener: Any, value: Any) -> None:
        super().__init__(f"the 'request' listener {called(listener)} has returned {type(value).__name__}, and has not "
                         'answered: what it returns goes nowhere, call response.end(...)')


def check_listener(event: str, listener: Any) -> None:
    """Raise ``TypeError`` for what can be called and would never answer. Never switches."""
    kind = _never_run(listener)
    if kind is not None:
        raise TypeError(f'a listener for {event!r} must be a plain function, and {called(listener)} is {kind}, which '
                        'would never run: write def without await or yield, and wait by calling, as gevent does')


def check_returned(listener: Any, value: Any) -> None:
    """Raise :class:`ListenerReturned` if ``value``, which ``listener`` has returned, was meant to be an answer. Never
    switches."""
    if isinstance(value, (list, tuple)):
        meant = not value or isinstance(value[0], _ITEMS)
    else:
        meant = isinstance(value, _ANSWERS) or inspect.isawaitable(value)
    if meant:
        if inspect.iscoroutine(value):
            # or Python would complain a second time, about the wrong thing
            value.close()
        raise ListenerReturned(listener, value)


def called(listener: Any) -> str:
    """Return what ``listener`` is called in messages. Never switches."""
    name = getattr(listener, '__qualname__', None)
    return repr(listener) if name is None else f'{name}()'


def _never_run(listener: Any) -> str | None:
    """Return what kind of function ``listener`` is if a call of it runs nothing, or None."""
    for function in (listener, type(listener).__call__):
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            return 'async def'
        if inspect.isgeneratorfunction(function):
            return 'a generator function'
    return None

"""Node's ``EventEmitter``.

The listeners of an event are a tuple, which is replaced and never changed. :meth:`EventEmitter.emit` iterates over the
tuple that it finds first. A listener can therefore add and remove others without effect on the current round, and no
event needs a copy. An emitter without listeners has no table at all.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from difflib import get_close_matches
from functools import lru_cache
from typing import Any, ClassVar, TypeVar, overload

from zope.interface import implementer

from geventnode.errors import MaxListenersExceededWarning, UnhandledError
from geventnode.interfaces import IEventEmitter

__all__ = ['EventEmitter', 'Listener']

Listener = Callable[..., object]
Self = TypeVar('Self', bound='EventEmitter')
#: A decorated function keeps its type.
Decorated = TypeVar('Decorated', bound=Listener)

DEFAULT_MAX_LISTENERS = 10

#: A name with at least this similarity (``difflib``) to a declared event is a misspelling of it.
CUTOFF = 0.8
#: A declared event with one of these endings is a misspelling of it, too.
ENDINGS = 's', 'd', 'ed'


def _normalize(event: str) -> str:
    """Return ``event`` in lower case, without underscores, hyphens and blanks."""
    return event.replace('_', '').replace('-', '').replace(' ', '').lower()


@lru_cache(maxsize=1024)
def _nearest(event: str, known: frozenset[str]) -> str | None:
    """Return the one of the ``known`` events that ``event`` misspells, or None."""
    name = _normalize(event)
    spellings = {_normalize(each): each for each in known}
    for right in spellings:
        if name in (f'on{right}', *(right + ending for ending in ENDINGS)):
            return spellings[right]
    # 'reopen' is not 'open': a misspelling keeps the first letter, and a new name often has a prefix
    near = get_close_matches(name, [right for right in spellings if right[:1] == name[:1]], 1, CUTOFF)
    return spellings[near[0]] if near else None


class _Once:
    """A listener that removes itself before it is called."""

    __slots__ = ('called', 'emitter', 'event', 'listener')

    def __init__(self, emitter: EventEmitter, event: str, listener: Listener) -> None:
        self.emitter = emitter
        self.event = event
        self.listener = listener
        self.called = False

    def __call__(self, *args: Any) -> object:
        if self.called:
            # an earlier listener of this round has emitted the event again
            return None
        self.called = True
        self.emitter.remove_listener(self.event, self)
        return self.listener(*args)


@implementer(IEventEmitter)
class EventEmitter:
    """Named events and their listeners, as Node's ``EventEmitter``.

    Listeners run in the greenlet that emits the event, and can block cooperatively. Event names are Node's strings. A
    name that misspells an event of the class raises ``ValueError`` with the right name: ``'check_continue'`` or
    ``'requests'``, for example. Every other name is an event of your own. A subclass adds its events to ``events``.

    Two events are emitted by every class: ``'newListener'`` (event, listener) before a listener is added, and
    ``'removeListener'`` (event, listener) after a listener was removed.

    Node's documentation: "Events", class ``EventEmitter``.
    """

    #: The events that the class itself emits.
    events: ClassVar[frozenset[str]] = frozenset({'newListener', 'removeListener'})
    _spellings: ClassVar[dict[str, str]] = {_normalize(event): event for event in events}

    _listeners: dict[str, tuple[Listener, ...]] | None = None
    _max_listeners: int = DEFAULT_MAX_LISTENERS
    _warned_events: frozenset[str] = frozenset()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._spellings = {_normalize(event): event for event in cls.events}

    # -- adding ---------------------------------------------------------------------------------------------------

    @overload
    def on(self: Self, event: str, listener: Listener) -> Self: ...

    @overload
    def on(self, event: str, listener: None = None) -> Callable[[Decorated], Decorated]: ...

    @overload
    def on(self, event: str, listener: Listener | None = None) -> Any: ...

    def on(self, event: str, listener: Listener | None = None) -> Any:
        """Add a listener to the end of the list of an event.

        Without ``listener``, the call is a decorator: ``@server.on('request')``.

        :param event: the name of the event.
        :param listener: a function that takes the arguments of the event; its return value is ignored.
        :returns: the emitter; as a decorator, the listener.
        :raises TypeError: the listener is not callable.
        :raises ValueError: the name misspells an event of the class.

        A listener that is added twice is called twice. The list is unlimited, but with more than 10 listeners (see
        :meth:`set_max_listeners`) ``MaxListenersExceededWarning`` is issued.
        """
        if listener is None:
            return self._decorator(event, once=False)
        return self._add(event, listener)

    def add_listener(self: Self, event: str, listener: Listener) -> Self:
        """Add a listener to the end of the list, as :meth:`on` does."""
        return self._add(event, listener)

    def prepend_listener(self: Self, event: str, listener: Listener) -> Self:
        """Add a listener to the beginning of the list; otherwise as :meth:`on`."""
        return self._add(event, listener, first=True)

    @overload
    def once(self: Self, event: str, listener: Listener) -> Self: ...

    @overload
    def once(self, event: str, listener: None = None) -> Callable[[Decorated], Decorated]: ...

    @overload
    def once(self, event: str, listener: Listener | None = None) -> Any: ...

    def once(self, event: str, listener: Listener | None = None) -> Any:
        """Add a listener that is removed before its first call.

        It is also a decorator. Parameters, return value and exceptions are those of :meth:`on`.
        """
        if listener is None:
            return self._decorator(event, once=True)
        self._check(event, listener)
        return self._add(event, _Once(self, event, listener))

    def _decorator(self, event: str, *, once: bool) -> Callable[[Decorated], Decorated]:
        self._check_thread()
        self._check_event(event)

        def register(listener: Decorated) -> Decorated:
            if once:
                self.once(event, listener)
            else:
                self.on(event, listener)
            return listener

        return register

    def _check_thread(self) -> None:
        """Raise ``WrongThread`` in a thread other than the loop's; for subclasses."""

    def _check_event(self, event: str) -> None:
        if event not in self.events:
            right = self._spellings.get(_normalize(event))
            if right is not None:
                raise ValueError(f'{type(self).__name__} has no event {event!r}: it is spelt {right!r}')
            right = _nearest(event, self.events)
            if right is not None:
                raise ValueError(
                    f'{type(self).__name__} has no event {event!r}: did you mean {right!r}? One of your '
                    "own can be added to 'events' of a subclass"
                )

    def _check(self, event: str, listener: Listener) -> None:
        self._check_thread()
        if not callable(listener):
            raise TypeError(f'a listener for {event!r} must be callable, not {type(listener).__name__}')
        self._check_event(event)

    def _add(self: Self, event: str, listener: Listener, *, first: bool = False) -> Self:
        self._check(event, listener)
        table = self._listeners
        if table is None:
            table = self._listeners = {}
        elif 'newListener' in table:
            self.emit('newListener', event, _unwrap(listener))
        present = table.get(event, ())
        table[event] = (listener, *present) if first else (*present, listener)
        limit = self._max_listeners
        if 0 < limit <= len(present) and event not in self._warned_events:
            self._warned_events |= {event}
            warnings.warn(
                f'{len(present) + 1} listeners for {event!r} of {self!r}: is one added again and again? '
                'set_max_listeners() raises the limit',
                MaxListenersExceededWarning,
                stacklevel=3,
            )
        self._listener_added(event)
        return self

    def _listener_added(self, event: str) -> None:
        """React to a new listener for ``event``; for subclasses."""

    # -- removing -------------------------------------------------------------------------------------------------

    def remove_listener(self: Self, event: str, listener: Listener) -> Self:
        """Remove the most recent addition of a listener.

        Nothing happens when the event has no such listener. A round of :meth:`emit` that has begun still calls it.

        :param event: the name of the event.
        :param listener: the function that was added, also by :meth:`once`.
        :returns: the emitter.
        """
        self._check_thread()
        table = self._listeners
        present = table.get(event, ()) if table else ()
        for index in range(len(present) - 1, -1, -1):
            found = present[index]
            if found == listener or _unwrap(found) == listener:
                rest = present[:index] + present[index + 1 :]
                assert table is not None
                if rest:
                    table[event] = rest
                else:
                    del table[event]
                if 'removeListener' in table:
                    self.emit('removeListener', event, _unwrap(found))
                break
        return self

    def remove_all_listeners(self: Self, event: str | None = None) -> Self:
        """Remove all listeners of one event, or of every event.

        :param event: the name of the event; None removes the listeners of all events.
        :returns: the emitter.
        """
        self._check_thread()
        table = self._listeners
        if table is None:
            return self
        if event is None:
            # the listeners for 'removeListener' are removed last, so that they are called for all others
            for name in sorted(table, key='removeListener'.__eq__):
                self.remove_all_listeners(name)
        elif 'removeListener' in table:
            for listener in reversed(table.get(event, ())):
                self.remove_listener(event, listener)
        else:
            table.pop(event, None)
        return self

    # -- inspecting -----------------------------------------------------------------------------------------------

    def listeners(self, event: str) -> list[Listener]:
        """Return a new list of the listeners of an event."""
        table = self._listeners
        return [_unwrap(listener) for listener in table.get(event, ())] if table else []

    def listener_count(self, event: str) -> int:
        """Return the number of listeners of an event."""
        table = self._listeners
        return len(table.get(event, ())) if table else 0

    def event_names(self) -> list[str]:
        """Return the events with listeners, in order of their first listener."""
        return list(self._listeners or ())

    def set_max_listeners(self: Self, count: int) -> Self:
        """Set the limit of listeners for one event before a warning.

        More listeners are a sign of a leak; they issue ``MaxListenersExceededWarning`` once for each event.

        :param count: the number of listeners, 10 by default; 0 disables the warning.
        :returns: the emitter.
        :raises ValueError: ``count`` is negative.
        """
        self._check_thread()
        if count < 0:
            raise ValueError(f'set_max_listeners() takes a number from 0, not {count!r}')
        self._max_listeners = count
        return self

    # -- emitting -------------------------------------------------------------------------------------------------

    def emit(self, event: str, *args: Any) -> bool:
        """Call the listeners of an event in order, in the current greenlet.

        Listeners that are added or removed meanwhile do not change the current round. The exception of a listener ends
        the round and is raised here.

        :param event: the name of the event.
        :param args: the arguments of every listener.
        :returns: whether the event has listeners.
        :raises UnhandledError: ``'error'`` has no listener, and its argument is not an exception. An exception is
            raised itself.
        """
        self._check_thread()
        table = self._listeners
        if table is not None and event in table:
            for listener in table[event]:
                listener(*args)
            return True
        if event == 'error':
            error = args[0] if args else None
            if isinstance(error, BaseException):
                raise error
            raise UnhandledError(f"'error' was emitted without a listener: {error!r}")
        return False

    def __repr__(self) -> str:
        heard = ', '.join(f'{event!r} ({self.listener_count(event)})' for event in self.event_names())
        return f'<{type(self).__name__} {f"with listeners for {heard}" if heard else "without listeners"}>'

    def _emit_error(self, error: BaseException) -> None:
        """Emit ``'error'`` if it has a listener now.

        A listener that existed when the error occurred can have been removed.
        """
        if self.listener_count('error'):
            self.emit('error', error)


def _unwrap(listener: Listener) -> Listener:
    """Return the function that was added."""
    return listener.listener if isinstance(listener, _Once) else listener

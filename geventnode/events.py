"""Node's ``EventEmitter``.

The listeners of an event are a tuple that is replaced, never changed: :meth:`EventEmitter.emit` walks the one it found,
so a listener may add and remove others without changing the round, and no copy is made for each event. An emitter that
nobody listens to holds no table at all.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from difflib import get_close_matches
from functools import lru_cache
from typing import Any, ClassVar, TypeVar

from zope.interface import implementer

from geventnode.errors import MaxListenersExceededWarning, UnhandledError
from geventnode.interfaces import IEventEmitter

__all__ = ['EventEmitter', 'Listener']

Listener = Callable[..., object]
Self = TypeVar('Self', bound='EventEmitter')

DEFAULT_MAX_LISTENERS = 10

#: How like a declared event another name must be to be taken for it (``difflib``), and with what behind it it is, too.
CUTOFF = 0.8
ENDINGS = 's', 'd', 'ed'


def _bare(event: str) -> str:
    """Return ``event`` without what spellings differ in."""
    return event.replace('_', '').replace('-', '').replace(' ', '').lower()


@lru_cache(maxsize=1024)
def _nearest(event: str, known: frozenset[str]) -> str | None:
    """Return which of the ``known`` events must be meant by ``event``, or None."""
    bare = _bare(event)
    spellings = {_bare(each): each for each in known}
    for right in spellings:
        if bare in (f'on{right}', *(right + ending for ending in ENDINGS)):
            return spellings[right]
    # 'reopen' is not 'open': who makes a mistake gets the first letter right, and who makes a name has it in front
    near = get_close_matches(bare, [right for right in spellings if right[:1] == bare[:1]], 1, CUTOFF)
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
            # another round began before the first one came here
            return None
        self.called = True
        self.emitter.remove_listener(self.event, self)
        return self.listener(*args)


@implementer(IEventEmitter)
class EventEmitter:
    """See :class:`geventnode.interfaces.IEventEmitter`. Subclasses name their events in ``events``."""

    events: ClassVar[frozenset[str]] = frozenset({'newListener', 'removeListener'})
    _spellings: ClassVar[dict[str, str]] = {_bare(event): event for event in events}

    _listeners: dict[str, tuple[Listener, ...]] | None = None
    _max_listeners: int = DEFAULT_MAX_LISTENERS
    _warned_events: frozenset[str] = frozenset()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._spellings = {_bare(event): event for event in cls.events}

    # -- adding ---------------------------------------------------------------------------------------------------

    def on(self, event: str, listener: Listener | None = None) -> Any:
        if listener is None:
            return self._decorator(event, once=False)
        return self._add(event, listener)

    def add_listener(self: Self, event: str, listener: Listener) -> Self:
        return self._add(event, listener)

    def prepend_listener(self: Self, event: str, listener: Listener) -> Self:
        return self._add(event, listener, first=True)

    def once(self, event: str, listener: Listener | None = None) -> Any:
        if listener is None:
            return self._decorator(event, once=True)
        self._check(event, listener)
        return self._add(event, _Once(self, event, listener))

    def _decorator(self, event: str, *, once: bool) -> Callable[[Listener], Listener]:
        self._check_thread()
        self._check_event(event)

        def register(listener: Listener) -> Listener:
            if once:
                self.once(event, listener)
            else:
                self.on(event, listener)
            return listener

        return register

    def _check_thread(self) -> None:
        """For subclasses that a loop drives: raise ``WrongThread`` in a thread that is not the loop's."""

    def _check_event(self, event: str) -> None:
        if event not in self.events:
            right = self._spellings.get(_bare(event))
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
        """For subclasses: called after a listener was added."""

    # -- removing -------------------------------------------------------------------------------------------------

    def remove_listener(self: Self, event: str, listener: Listener) -> Self:
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
        self._check_thread()
        table = self._listeners
        if table is None:
            return self
        if event is None:
            # those for 'removeListener' go last, so that they hear of all the others
            for name in sorted(table, key='removeListener'.__eq__):
                self.remove_all_listeners(name)
        elif 'removeListener' in table:
            for listener in reversed(table.get(event, ())):
                self.remove_listener(event, listener)
        else:
            table.pop(event, None)
        return self

    # -- asking ---------------------------------------------------------------------------------------------------

    def listeners(self, event: str) -> list[Listener]:
        table = self._listeners
        return [_unwrap(listener) for listener in table.get(event, ())] if table else []

    def listener_count(self, event: str) -> int:
        table = self._listeners
        return len(table.get(event, ())) if table else 0

    def event_names(self) -> list[str]:
        return list(self._listeners or ())

    def set_max_listeners(self: Self, count: int) -> Self:
        self._check_thread()
        if count < 0:
            raise ValueError(f'set_max_listeners() takes a number from 0, not {count!r}')
        self._max_listeners = count
        return self

    # -- emitting -------------------------------------------------------------------------------------------------

    def emit(self, event: str, *args: Any) -> bool:
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
            raise UnhandledError(f'an error that nobody listens for: {error!r}')
        return False

    def __repr__(self) -> str:
        heard = ', '.join(f'{event!r} ({self.listener_count(event)})' for event in self.event_names())
        return f'<{type(self).__name__} {f"with listeners for {heard}" if heard else "without listeners"}>'

    def _emit_error(self, error: BaseException) -> None:
        """Emit ``'error'`` if anybody listens: whoever did when it was noticed may have gone."""
        if self.listener_count('error'):
            self.emit('error', error)


def _unwrap(listener: Listener) -> Listener:
    """Return the function that was handed in."""
    return listener.listener if isinstance(listener, _Once) else listener
